-- A shop's migrations as `prisma migrate dev` writes them. After each name: verdict, reversible.
-- @ 20240105090000_init safe yes
-- CreateEnum
CREATE TYPE "OrderStatus" AS ENUM ('PENDING', 'PAID', 'CANCELLED');

-- CreateTable
CREATE TABLE "Customer" (
    "id" SERIAL NOT NULL,
    "email" TEXT NOT NULL,
    "phone" TEXT,
    "loyalty" INTEGER NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Customer_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Order" (
    "id" TEXT NOT NULL,
    "customerId" INTEGER NOT NULL,
    "status" "OrderStatus" NOT NULL DEFAULT 'PENDING',
    "total" DECIMAL(10,2) NOT NULL,
    "comment" VARCHAR(500),

    CONSTRAINT "Order_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "_OrderToTag" (
    "A" TEXT NOT NULL,
    "B" INTEGER NOT NULL
);

-- CreateIndex
CREATE UNIQUE INDEX "Customer_email_key" ON "Customer"("email");

-- CreateIndex
CREATE UNIQUE INDEX "_OrderToTag_AB_unique" ON "_OrderToTag"("A", "B");

-- CreateIndex
CREATE INDEX "_OrderToTag_B_index" ON "_OrderToTag"("B");

-- AddForeignKey
ALTER TABLE "Order" ADD CONSTRAINT "Order_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES "Customer"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- @ 20240212100000_customer_address safe if
-- AlterTable
ALTER TABLE "Customer" ADD COLUMN     "city" TEXT,
ADD COLUMN     "newsletter" BOOLEAN NOT NULL DEFAULT false,
ADD COLUMN     "tags" TEXT[] DEFAULT ARRAY[]::TEXT[];

-- @ 20240301110000_shipments safe if
-- CreateTable
CREATE TABLE "Shipment" (
    "id" SERIAL NOT NULL,
    "orderId" TEXT NOT NULL,
    "carrier" TEXT NOT NULL,

    CONSTRAINT "Shipment_pkey" PRIMARY KEY ("id")
);

-- AlterTable
ALTER TABLE "Order" ADD COLUMN     "shippedAt" TIMESTAMP(3);

-- CreateIndex
CREATE UNIQUE INDEX "Shipment_orderId_key" ON "Shipment"("orderId");

-- AddForeignKey
ALTER TABLE "Shipment" ADD CONSTRAINT "Shipment_orderId_fkey" FOREIGN KEY ("orderId") REFERENCES "Order"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- @ 20240315120000_required_without_default breaking yes
/*
  Warnings:

  - Added the required column `updatedAt` to the `Customer` table without a default value. This is not possible if the table is not empty.

*/
-- AlterTable
ALTER TABLE "Customer" ADD COLUMN     "updatedAt" TIMESTAMP(3) NOT NULL;

-- @ 20240320120000_order_refunded_status safe-if no
-- AlterEnum
ALTER TYPE "OrderStatus" ADD VALUE 'REFUNDED';

-- @ 20240401120000_idempotency_key safe if
-- AlterTable
ALTER TABLE "Order" ADD COLUMN     "idempotencyKey" TEXT;

-- CreateIndex
CREATE UNIQUE INDEX "Order_idempotencyKey_key" ON "Order"("idempotencyKey");

-- @ 20240415120000_unique_phone safe-if yes
/*
  Warnings:

  - A unique constraint covering the columns `[phone]` on the table `Customer` will be added. If there are existing duplicate values, this will fail.

*/
-- CreateIndex
CREATE UNIQUE INDEX "Customer_phone_key" ON "Customer"("phone");

-- @ 20240501120000_join_table_primary_key safe yes
-- AlterTable
ALTER TABLE "_OrderToTag" ADD CONSTRAINT "_OrderToTag_AB_pkey" PRIMARY KEY ("A", "B");

-- DropIndex
DROP INDEX "_OrderToTag_AB_unique";

-- @ 20240510120000_rename_comment_by_drop_and_add breaking no
/*
  Warnings:

  - You are about to drop the column `comment` on the `Order` table. All the data in the column will be lost.

*/
-- AlterTable
ALTER TABLE "Order" DROP COLUMN "comment",
ADD COLUMN     "remark" VARCHAR(500);

-- @ 20240520120000_remove_enum_value breaking if
/*
  Warnings:

  - The values [CANCELLED] on the enum `OrderStatus` will be removed. If these variants are still used in the database, this will fail.

*/
-- AlterEnum
BEGIN;
CREATE TYPE "OrderStatus_new" AS ENUM ('PENDING', 'PAID', 'REFUNDED');
ALTER TABLE "Order" ALTER COLUMN "status" DROP DEFAULT;
ALTER TABLE "Order" ALTER COLUMN "status" TYPE "OrderStatus_new" USING ("status"::text::"OrderStatus_new");
ALTER TYPE "OrderStatus" RENAME TO "OrderStatus_old";
ALTER TYPE "OrderStatus_new" RENAME TO "OrderStatus";
DROP TYPE "OrderStatus_old";
ALTER TABLE "Order" ALTER COLUMN "status" SET DEFAULT 'PENDING';
COMMIT;

-- @ 20240601120000_widen_remark safe if
-- AlterTable
ALTER TABLE "Order" ALTER COLUMN "remark" SET DATA TYPE TEXT;

-- @ 20240605120000_shorten_city breaking if
-- AlterTable
ALTER TABLE "Customer" ALTER COLUMN "city" SET DATA TYPE VARCHAR(40);

-- @ 20240610120000_optional_carrier safe-if if
-- AlterTable
ALTER TABLE "Shipment" ALTER COLUMN "carrier" DROP NOT NULL;

-- @ 20240615120000_required_city safe-if yes
-- AlterTable
ALTER TABLE "Customer" ALTER COLUMN "city" SET NOT NULL;

-- @ 20240620120000_total_as_integer breaking no
/*
  Warnings:

  - You are about to alter the column `total` on the `Order` table. The data in that column could be lost. The data in that column will be cast from `Decimal(10,2)` to `Integer`.

*/
-- AlterTable
ALTER TABLE "Order" ALTER COLUMN "total" SET DATA TYPE INTEGER;

-- @ 20240625120000_cascade safe-if yes
-- DropForeignKey
ALTER TABLE "Order" DROP CONSTRAINT "Order_customerId_fkey";

-- AddForeignKey
ALTER TABLE "Order" ADD CONSTRAINT "Order_customerId_fkey" FOREIGN KEY ("customerId") REFERENCES "Customer"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- @ 20240701120000_drop_unique_phone breaking if
-- DropIndex
DROP INDEX "Customer_phone_key";

-- @ 20240705120000_rename_mapped_table breaking yes
-- Renamed by hand, as the tool would drop and create
ALTER TABLE "Customer" RENAME TO "customers";
ALTER TABLE "customers" RENAME CONSTRAINT "Customer_pkey" TO "customers_pkey";
ALTER INDEX "Customer_email_key" RENAME TO "customers_email_key";

-- @ 20240710120000_drop_shipments breaking no
/*
  Warnings:

  - You are about to drop the `Shipment` table. If the table is not empty, all the data it contains will be lost.

*/
-- DropForeignKey
ALTER TABLE "Shipment" DROP CONSTRAINT "Shipment_orderId_fkey";

-- DropTable
DROP TABLE "Shipment";

-- @ 20240715120000_index safe yes
-- CreateIndex
CREATE INDEX "Order_customerId_status_idx" ON "Order"("customerId", "status");

-- @ 20240716120000_drop_index safe yes
-- DropIndex
DROP INDEX "Order_customerId_status_idx";

-- @ 20240720120000_default_dropped safe-if yes
-- AlterTable
ALTER TABLE "customers" ALTER COLUMN "loyalty" DROP DEFAULT;
