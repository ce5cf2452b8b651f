-- A catalogue to look at; running it again changes nothing.
INSERT INTO "models" ("id", "name", "price_cents", "file_key") VALUES
    (1, 'Bracket, 40 mm', 450, 'bracket-40.txt'),
    (2, 'Gear, 24 teeth', 890, NULL),
    (3, 'Cable clip, pack of 10', 320, NULL),
    (4, 'Knob with D shaft', 275, NULL),
    (5, 'Enclosure for a small board', 1290, NULL)
ON CONFLICT ("id") DO NOTHING;
SELECT setval(pg_get_serial_sequence('"models"', 'id'), GREATEST((SELECT max("id") FROM "models"), 1));
