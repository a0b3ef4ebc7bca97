//! The operators' door to a running agent: a Unix socket, one line of JSON each way; a capture, and who follows events, is answered by
//! many lines.
//!
//! Who may do what is decided by which socket file the kernel lets a process open, not by anything that it says.

pub mod api;
pub mod client;
pub mod server;
#[cfg(test)]
mod tests;

/// For changes and questions: root, and the group `rollcall` where there is one.
const CONTROL_SOCKET: &str = "control.sock";

/// For questions alone: root, and the group `rollcall-view`; made only where there is such a group.
const VIEW_SOCKET: &str = "view.sock";
