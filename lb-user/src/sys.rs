//! System calls that have no safe wrapper in rustix or socket2; each with the fact that makes it safe.

pub mod arp;

pub use arp::ArpSocket;
