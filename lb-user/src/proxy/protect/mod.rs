//! What keeps the proxy, and the servers behind it, from those who ask too much. Pure: all of it decides on what it is
//! given; `listener`, `session` and `guard` ask, wait, and answer.
//!
//! In the order in which a client meets it: [`proxies`] (who is it), [`networks`] (may this address speak at all), [`connections`] (how many at
//! once), [`limits`] (how large and how slow a request may be), [`rate`] (how often), [`credentials`] and [`logon`] (how many
//! failed logons). Whatever an attacker can make up, such as addresses and users, is kept in tables of a fixed size
//! (`table`), found by a keyed hash ([`HashKey`]).

pub mod client;
pub mod connections;
pub mod credentials;
mod key;
pub mod limits;
pub mod logon;
pub mod networks;
pub mod proxies;
pub mod rate;
mod settings;
mod table;

pub use key::HashKey;
pub use settings::Protection;
