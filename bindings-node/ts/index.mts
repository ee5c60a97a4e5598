/** The same package for `import`: one implementation, so that both ways share their classes. */

export * from "./index.js";
