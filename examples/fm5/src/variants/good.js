/** The application as it is, under a variant's name. */
export { default } from "../index.js";
