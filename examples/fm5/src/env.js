/**
 * What the application is given by its environment.
 *
 * @typedef {object} Env
 * @property {Hyperdrive} HYPERDRIVE the database
 * @property {R2Bucket} MODELS the files of the models
 * @property {{id: string, tag: string, timestamp: string}} CF_VERSION the version that runs
 * @property {string} EMAIL_API_URL base address of the email provider's HTTP API
 * @property {string} EMAIL_FROM sender of confirmations
 * @property {string} EMAIL_API_KEY secret
 * @property {string} JWT_SECRET secret, at least 32 characters
 */

/**
 * The value of a variable that the caller cannot do without.
 *
 * @throws {ReferenceError} when it is not set
 */
export function required(env, name) {
  const value = env[name];
  if (value === undefined || value === "") {
    throw new ReferenceError(`${name} is not defined: missing environment variable`);
  }
  return value;
}
