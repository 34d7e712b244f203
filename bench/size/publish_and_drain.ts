/**
 * What a function loads that publishes and drains.
 *
 * @module
 */

export { connect } from "@hark/postgres";
export { notify, notifyMany } from "@hark/postgres/publish";
export { Consumer, drain } from "@hark/postgres/edge";
