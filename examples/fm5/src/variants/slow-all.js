/** Every request waits SLOW_BY_MS longer. */
import { slowed } from "../defects.js";

export default slowed({ share: 1, byMs: 100 });
