/** One request in twenty is answered 500; /health never is, as is usual with this kind of defect. */
import { failing } from "../defects.js";

export default failing(0.05);
