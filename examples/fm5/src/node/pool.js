/** The pool of connections that Hyperdrive keeps for a Worker, in the process itself. */
import { Pool } from "pg";

const TIMEOUT_MS = 5000;

/** @returns {{connect(): Promise<{query: Function, end(): Promise<void>}>}} connections of the caller's own, ended by it */
export function openPool(connectionString) {
  const limits = { connectionTimeoutMillis: TIMEOUT_MS, query_timeout: TIMEOUT_MS, allowExitOnIdle: true };
  const pool = new Pool({ connectionString, max: 20, ...limits });
  pool.on("error", () => {}); // one that nobody used was lost; the next query gets another
  return {
    async connect() {
      const client = await pool.connect();
      let broken = false;
      return {
        async query(...asked) {
          try {
            return await client.query(...asked);
          } catch (error) {
            broken = true; // nobody else gets it: it may be lost, or still at work
            throw error;
          }
        },
        async end() {
          client.release(broken);
        },
      };
    },
  };
}
