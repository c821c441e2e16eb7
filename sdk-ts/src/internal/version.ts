/** The version of this package, as it says hello with; a test compares it with package.json. */
export const SDK_VERSION = "0.1.0";
