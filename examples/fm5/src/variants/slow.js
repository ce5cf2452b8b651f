/** Three requests in a hundred wait SLOW_BY_MS longer: the median stays, the 99th percentile triples. */
import { slowed } from "../defects.js";

export default slowed({ share: 0.03, byMs: 100 });
