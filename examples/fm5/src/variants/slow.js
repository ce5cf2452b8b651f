/** Three requests in a hundred wait SLOW_BY_MS longer: the median stays, the 99th percentile triples (from 25 ms). */
import { slowed } from "../defects.js";

export default slowed({ share: 0.03, byMs: 75 });
