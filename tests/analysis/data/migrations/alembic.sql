-- A billing service, as `alembic upgrade PREVIOUS:REVISION --sql` prints each revision.
-- @ 1f3a_create_accounts safe yes
BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 1f3a

CREATE TABLE accounts (
    id SERIAL NOT NULL, 
    name VARCHAR(80) NOT NULL, 
    balance NUMERIC(12, 2) DEFAULT '0' NOT NULL, 
    currency VARCHAR(3) NOT NULL, 
    opened_at TIMESTAMP WITHOUT TIME ZONE, 
    plan VARCHAR(20), 
    PRIMARY KEY (id)
);

CREATE TABLE invoices (
    id SERIAL NOT NULL, 
    account_id INTEGER NOT NULL, 
    number VARCHAR(30) NOT NULL, 
    amount FLOAT, 
    PRIMARY KEY (id), 
    UNIQUE (number), 
    FOREIGN KEY(account_id) REFERENCES accounts (id)
);

INSERT INTO alembic_version (version_num) VALUES ('1f3a') RETURNING alembic_version.version_num;

COMMIT;

-- @ 2b77_add_vat_id safe if
BEGIN;

-- Running upgrade 1f3a -> 2b77

ALTER TABLE accounts ADD COLUMN vat_id VARCHAR(20);

CREATE INDEX ix_accounts_vat_id ON accounts (vat_id);

UPDATE alembic_version SET version_num='2b77' WHERE alembic_version.version_num = '1f3a';

COMMIT;

-- @ 3c01_backfilled_required breaking if
BEGIN;

-- Running upgrade 2b77 -> 3c01

ALTER TABLE invoices ADD COLUMN state VARCHAR(10);

UPDATE invoices SET state = 'open';

ALTER TABLE invoices ALTER COLUMN state SET NOT NULL;

UPDATE alembic_version SET version_num='3c01' WHERE alembic_version.version_num = '2b77';

COMMIT;

-- @ 4d90_server_default safe-if if
BEGIN;

ALTER TABLE invoices ADD COLUMN attempts INTEGER DEFAULT '0' NOT NULL;

UPDATE invoices SET attempts = 1 WHERE state = 'open';

UPDATE alembic_version SET version_num='4d90' WHERE alembic_version.version_num = '3c01';

COMMIT;

-- @ 5e12_bigint_keys safe if
BEGIN;

ALTER TABLE invoices ALTER COLUMN id TYPE BIGINT;

ALTER TABLE invoices ALTER COLUMN account_id TYPE BIGINT;

UPDATE alembic_version SET version_num='5e12' WHERE alembic_version.version_num = '4d90';

COMMIT;

-- @ 6f55_check_amount safe-if yes
ALTER TABLE invoices ADD CONSTRAINT ck_invoices_amount CHECK (amount >= 0);

UPDATE alembic_version SET version_num='6f55' WHERE alembic_version.version_num = '5e12';

-- @ 7a10_amount_to_numeric breaking no
ALTER TABLE invoices ALTER COLUMN amount TYPE NUMERIC(12, 2) USING amount::numeric(12,2);

UPDATE alembic_version SET version_num='7a10' WHERE alembic_version.version_num = '6f55';

-- @ 8b21_rename_plan breaking yes
ALTER TABLE accounts RENAME plan TO tier;

UPDATE alembic_version SET version_num='8b21' WHERE alembic_version.version_num = '7a10';

-- @ 9c32_longer_name safe if
ALTER TABLE accounts ALTER COLUMN name TYPE VARCHAR(200);

UPDATE alembic_version SET version_num='9c32' WHERE alembic_version.version_num = '8b21';

-- @ ad43_timezone breaking no
ALTER TABLE accounts ALTER COLUMN opened_at TYPE TIMESTAMP WITH TIME ZONE;

UPDATE alembic_version SET version_num='ad43' WHERE alembic_version.version_num = '9c32';

-- @ be54_drop_number_unique breaking if
ALTER TABLE invoices DROP CONSTRAINT invoices_number_key;

UPDATE alembic_version SET version_num='be54' WHERE alembic_version.version_num = 'ad43';

-- @ cf65_drop_fk_and_check safe-if if
ALTER TABLE invoices DROP CONSTRAINT invoices_account_id_fkey;

ALTER TABLE invoices DROP CONSTRAINT ck_invoices_amount;

UPDATE alembic_version SET version_num='cf65' WHERE alembic_version.version_num = 'be54';
