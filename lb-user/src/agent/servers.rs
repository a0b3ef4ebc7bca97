//! The states that operators gave servers of farms on this node, in place of the configuration's: kept in `servers.json` in the
//! state folder, and given to the proxy whenever it is another. By the names of farm and server, so that they outlive a
//! configuration in which both stand somewhere else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tracing::warn;

use super::events::{EventLog, Note};
use super::orders::keep::{LONGEST, write};
use crate::control::api::{Answer, ProxyStatus, ServerStatus};
use crate::proxy::balance::settings::State;
use crate::proxy::channel::ServerState;
use crate::proxy::supervisor::States;

/// The file's name in the state folder.
const FILE: &str = "servers.json";

/// The number of this format.
const VERSION: u32 = 1;

/// Most servers in it.
const MOST: usize = 1024;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    servers: Vec<ServerState>,
}

/// What an earlier agent kept; nothing where nothing is, or nothing that can be used, which is set aside.
pub(super) fn kept(state_dir: &Path) -> Vec<ServerState> {
    let path = state_dir.join(FILE);
    let bytes = match fs::metadata(&path).map(|file| file.len()) {
        Ok(length) if length <= LONGEST => fs::read(&path),
        Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
        Err(error) => Err(error),
    };
    let read = match bytes {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => Err(error),
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(io::Error::other),
    };
    match read {
        Ok(Kept { version: VERSION, servers }) if servers.len() <= MOST => return servers,
        Ok(_) => warn!("{} is of another version", path.display()),
        Err(error) => warn!(%error, "cannot read {}", path.display()),
    }
    let bad = path.with_extension("json.bad");
    warn!("servers begin in the states of the configuration; the file is set aside as {}", bad.display());
    if let Err(error) = fs::rename(&path, &bad) {
        warn!(%error, "it could not be set aside");
    }
    Vec::new()
}

/// Changes states, for one operator after the other.
pub(super) struct Servers {
    state_dir: PathBuf,
    proxy: Option<(States, watch::Receiver<ProxyStatus>)>,
    events: Arc<EventLog>,
    turn: Mutex<()>,
}

impl Servers {
    pub(super) fn new(
        state_dir: PathBuf,
        proxy: Option<(States, watch::Receiver<ProxyStatus>)>,
        events: Arc<EventLog>,
    ) -> Self {
        Self { state_dir, proxy, events, turn: Mutex::default() }
    }

    /// Has a server be in this state until an operator says otherwise, over restarts of the proxy and the agent.
    pub(super) async fn set(&self, farm: &str, server: &str, state: State) -> Answer {
        let _turn = self.turn.lock().await;
        let Some((states, status)) = &self.proxy else {
            return Answer::Error { text: "this node publishes nothing, so it has no farms".to_owned() };
        };
        let before = match find(&status.borrow().servers, farm, server) {
            Ok(known) => known.clone(),
            Err(text) => return Answer::Error { text },
        };
        let now = with(states.get(), farm, server, state, &before.configured);
        if now.len() > MOST {
            return Answer::Error { text: format!("more than {MOST} servers have states of their own") };
        }
        let kept = Kept { version: VERSION, servers: now.clone() };
        let folder = self.state_dir.clone();
        let written = tokio::task::spawn_blocking(move || write(&folder, FILE, &kept)).await;
        // A state that is gone after a restart is not the state that was asked for.
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            let path = self.state_dir.join(FILE);
            return Answer::Error { text: format!("cannot write {}: {error}", path.display()) };
        }
        states.set(now);
        if before.state != state.as_str() {
            let text = format!("server {server} of farm {farm} is {}, by an operator", words(state));
            tracing::info!("{text}");
            self.events.push(Note::new("server-state", false, text));
        }
        Answer::ServerSet {
            was: before.state,
            server: Box::new(ServerStatus { state: state.as_str().to_owned(), ..before }),
        }
    }
}

/// The list in which the server has this state; one that the configuration gives it needs no place there.
fn with(
    mut list: Vec<ServerState>,
    farm: &str,
    server: &str,
    state: State,
    configured: &str,
) -> Vec<ServerState> {
    list.retain(|given| (given.farm.as_str(), given.server.as_str()) != (farm, server));
    if state.as_str() != configured {
        list.push(ServerState { farm: farm.to_owned(), server: server.to_owned(), state });
    }
    list
}

fn find<'a>(servers: &'a [ServerStatus], farm: &str, server: &str) -> Result<&'a ServerStatus, String> {
    let list = |mut names: Vec<&str>| {
        names.dedup();
        names.join(", ")
    };
    let its: Vec<&ServerStatus> = servers.iter().filter(|known| known.farm == farm).collect();
    if its.is_empty() {
        let known = list(servers.iter().map(|known| known.farm.as_str()).collect());
        return Err(format!("no farm is named {farm}; the farms are {known}"));
    }
    its.iter().find(|known| known.name == server).copied().ok_or_else(|| {
        let known = list(its.iter().map(|known| known.name.as_str()).collect());
        format!("no server of farm {farm} is named {server}; its servers are {known}")
    })
}

fn words(state: State) -> &'static str {
    match state {
        State::Active => "active: it takes requests",
        State::Drain => "draining: it goes on with the clients that it has",
        State::Disabled => "disabled: it takes no requests",
    }
}

/// The servers that are in another state than the configuration says, a sentence each.
pub(super) fn adjusted(proxy: &ProxyStatus) -> impl Iterator<Item = String> {
    let other = proxy.servers.iter().filter(|server| server.state != server.configured);
    other.map(|server| {
        let ServerStatus { farm, name, state, configured, .. } = server;
        format!("server {name} of farm {farm} is {state} instead of {configured}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(server: &str, state: State) -> ServerState {
        ServerState { farm: "exchange".to_owned(), server: server.to_owned(), state }
    }

    #[test]
    fn a_state_takes_the_place_of_the_one_before_and_the_configured_one_needs_none() {
        let list = with(Vec::new(), "exchange", "sbex1", State::Drain, "active");
        assert_eq!(list, [given("sbex1", State::Drain)]);
        let list = with(list, "exchange", "sbex3", State::Active, "disabled");
        let list = with(list, "exchange", "sbex1", State::Disabled, "active");
        assert_eq!(list, [given("sbex3", State::Active), given("sbex1", State::Disabled)]);
        assert_eq!(with(list, "exchange", "sbex1", State::Active, "active"), [given("sbex3", State::Active)]);
    }

    #[test]
    fn what_there_is_not_is_told_with_what_there_is() {
        let server = |farm: &str, name: &str| ServerStatus {
            farm: farm.to_owned(),
            name: name.to_owned(),
            ..ServerStatus::default()
        };
        let servers = [server("exchange", "sbex1"), server("exchange", "sbex3"), server("web", "w")];
        assert!(find(&servers, "exchange", "sbex3").is_ok());
        for (farm, name, wanted) in [
            ("sbex1", "exchange", "no farm is named sbex1; the farms are exchange, web"),
            ("exchange", "w", "no server of farm exchange is named w; its servers are sbex1, sbex3"),
        ] {
            assert_eq!(find(&servers, farm, name), Err(wanted.to_owned()));
        }
    }

    #[test]
    fn what_was_kept_is_there_again_and_a_damaged_file_is_set_aside() {
        let folder = std::env::temp_dir().join(format!("rollcall-servers-{}", std::process::id()));
        assert_eq!(kept(&folder), []);
        let servers = vec![given("sbex1", State::Drain)];
        write(&folder, FILE, &Kept { version: VERSION, servers: servers.clone() }).unwrap();
        assert_eq!(kept(&folder), servers);
        fs::write(folder.join(FILE), "{\"version\": 2, \"servers\": []}").unwrap();
        assert_eq!(kept(&folder), []);
        assert!(folder.join("servers.json.bad").exists() && !folder.join(FILE).exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
