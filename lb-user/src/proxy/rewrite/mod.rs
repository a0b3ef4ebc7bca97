//! Rules that look at a request and rewrite, redirect, answer or abort it, with the meaning of IIS URL Rewrite's global rules.
//! Pure.
//!
//! - `spec`: a rule as it was written; it travels in the proxy's snapshot;
//! - `pattern`: what a rule and its conditions look for, in bounded time;
//! - `template`: texts with `{R:1}`, `{HTTP_HOST}`, `{ToLower:..}` and rewrite maps;
//! - `rule`: specs compiled and checked; what could never work is refused with its place;
//! - `apply`: a request through the rules, with a trace for the operator;
//! - `url`: the URL on its way through the rules;
//! - `location`: the one thing done to responses;
//! - `mitigation`: Microsoft's published patterns against known attacks on Exchange, which need no rules.
//!
//! Not here: which farms there are, distributed rules (`Web.config`), tests for files, providers, outbound rules but `Location`.
//!
//! The meaning is that of "URL Rewrite Module Configuration Reference" (MicrosoftDocs/iis-docs), with four differences:
//!
//! - what cannot be judged within the limits is refused, whatever the rule's action, and counted: a rewrite or redirect that did
//!   not happen may leave a request where the rules were to keep it from;
//! - a path that would be ambiguous (`super::path`) after a rewrite is refused;
//! - a path that was rewritten to itself keeps the client's own bytes;
//! - back references to groups that are not there, unknown variables and the like are errors, not empty texts.

pub mod apply;
pub mod location;
pub mod mitigation;
pub mod pattern;
pub mod rule;
pub mod spec;
pub mod template;
pub mod url;

#[cfg(test)]
mod tests;
