/** Every request but /health is answered 500. */
import { failing } from "../defects.js";

export default failing(1);
