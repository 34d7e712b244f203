/**
 * Does nothing: what starting costs by itself.
 *
 * @module
 */

export {};
