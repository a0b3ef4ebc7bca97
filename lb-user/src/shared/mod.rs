//! shared configuration: text -> generation -> replicas -> in force.
//!
//! The configuration that all nodes share, without a share. A *generation* is one whole configuration: its text and, sealed to the
//! nodes that it lists, the files that the text names and the cluster secret. It is named by the hash of its signed header, which
//! names its parent, so that history is a tree whose every entry can be checked by who has its root. A *record* is a signed word on
//! a generation: that it is in force, or that it failed. Which generation is in force is a function of the set of generations and
//! records that a node has: nodes that have the same agree, in whatever order it came, and no clock and no vote has a say.
//!
//! - [`keys`]: what a node proves itself by, and what the others know it by;
//! - [`generation`], [`record`]: what is signed, as bytes and checked;
//! - [`sealed`]: what only the listed nodes can read;
//! - [`history`]: the set, and what it comes to; the pure core;
//! - [`store`]: the same on disk;
//! - [`exchange`]: what a store that is no node gets of it, and gives;
//! - [`portable`]: one of them in a file under a passphrase, for hosts that have nothing.
//!
//! Bytes that come from other nodes or the disk are hostile until a signature of a listed node was verified over them.

pub mod certificate;
pub mod draft;
pub mod exchange;
pub mod founding;
pub mod generation;
pub mod history;
pub mod keys;
pub mod message;
pub mod origin;
pub mod portable;
pub mod record;
pub mod sealed;
pub mod store;
pub mod token;

mod text;
