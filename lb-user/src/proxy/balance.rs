//! Which server of a farm takes a request.
//!
//! A [`farm::Farm`] is what a proxy holds. `settings` say what it is to be; `eligible` finds the servers that may take a
//! request, `choice`, `turns`, `hash`, `traffic` and `slow_start` prefer one of them; `load` and `response_time` count what
//! servers do; `monitor`, `status` and `verdicts` make health of outcomes, and `finding` names them; `queue` and `gate` let requests wait for a server
//! below its limit; `affinity` and `cookie` keep a client with its server. All but `gate` are pure.

pub mod affinity;
pub mod choice;
pub mod cookie;
pub mod eligible;
pub mod farm;
pub mod finding;
pub mod gate;
pub mod hash;
pub mod load;
pub mod monitor;
pub mod queue;
pub mod response_time;
pub mod set;
pub mod settings;
pub mod slow_start;
pub mod status;
pub mod traffic;
pub mod turns;
pub mod verdicts;

/// What the health tests say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not tested yet: it gets connections only where no healthy server is left, so that a proxy that was just started again
    /// answers before its first tests are through.
    Untested,
    /// The last test succeeded.
    Healthy,
    /// So many tests in a row failed that it gets no connections.
    Unhealthy,
}
