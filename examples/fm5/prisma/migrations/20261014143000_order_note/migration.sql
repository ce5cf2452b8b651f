-- AlterTable
ALTER TABLE "orders" ADD COLUMN "note" TEXT;

-- CreateIndex
CREATE INDEX "orders_confirmed_at_created_at_idx" ON "orders"("confirmed_at", "created_at");
