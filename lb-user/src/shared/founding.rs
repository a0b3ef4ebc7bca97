//! What a cluster begins with: the text of its first configuration, and the first generation.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TomlError, value};

use super::draft::{Draft, DraftError, roster};
use super::generation::{Generation, Saying};
use super::keys::{NodeKeys, PublicKeys};
use super::record::{Record, SignedRecord, Word};
use super::sealed::{SealError, Secrets};

/// What the first node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster IP with its prefix length.
    pub ip: String,
    /// How frames reach all nodes.
    pub mode: String,
    /// The first node.
    pub node: NewNode,
    /// What is published, if anything is yet.
    pub exchange: Option<Exchange>,
}

/// A node that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its host priority, 1 to 64.
    pub priority: u8,
}

/// An Exchange front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The public names.
    pub names: Vec<String>,
    /// The servers' addresses.
    pub servers: Vec<String>,
    /// The file with the certificate.
    pub certificate: PathBuf,
    /// The file with its key, where that is another.
    pub key: Option<PathBuf>,
    /// The file with the password of either.
    pub password_file: Option<PathBuf>,
}

impl Founding {
    /// The configuration, with comments for who reads it first.
    pub fn text(&self, keys: &PublicKeys) -> String {
        let Self { ip, mode, node: NewNode { name, address, priority }, exchange } = self;
        let mut text = format!(
            "# What all nodes of this cluster share. Change it on any of them: rollcall config edit\n\n\
             [cluster]\n\
             ip = {ip:?}                # the cluster IP, with its network's prefix length\n\
             mode = {mode:?}                  # how frames reach all nodes: \"multicast\", \"igmp\" or \"unicast\"\n\n\
             # Each node, once; `rollcall join` on the next one adds it here. The lowest priority alive is the default host.\n\
             [[node]]\n\
             name = {name:?}\n\
             address = \"{address}\"\n\
             priority = {priority}\n\
             keys = \"{keys}\"\n"
        );
        if let Some(exchange) = exchange {
            text.push_str(&exchange.text());
        } else {
            text.push_str(EXAMPLE);
        }
        text
    }
}

impl Exchange {
    fn text(&self) -> String {
        let path = |path: &PathBuf| format!("{:?}", path.display().to_string());
        let mut text = format!(
            "\n# Outlook, phones and browsers to Exchange; `rollcall check --expand` prints what this stands for.\n\
             [exchange]\n\
             names = {:?}\n\
             servers = {:?}\n\
             certificate = {}\n",
            self.names,
            self.servers,
            path(&self.certificate)
        );
        if let Some(key) = &self.key {
            text.push_str(&format!("key = {}\n", path(key)));
        }
        if let Some(file) = &self.password_file {
            text.push_str(&format!("password_file = {}\n", path(file)));
        }
        text.push_str(
            "# ecp = [\"10.0.0.0/8\"]    # who may use /ecp: closed to all unless networks are listed\n",
        );
        text
    }
}

const EXAMPLE: &str = r#"
# What is published. An Exchange front end is four lines:
# [exchange]
# names = ["mail.example.test", "autodiscover.example.test"]
# servers = ["10.0.0.36", "10.0.0.37"]
# certificate = "/root/mail.pfx"
# password_file = "/root/mail.password"
"#;

/// `text` with `node` among its nodes, which has these keys; one of this name, or address, gets the keys alone.
pub fn with_node(text: &str, node: &NewNode, keys: &PublicKeys) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let nodes = document.entry("node").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(nodes) = nodes.as_array_of_tables_mut() {
        let is_it = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(node.name.as_str());
        if let Some(table) = nodes.iter_mut().find(is_it) {
            table.insert("keys", value(keys.word()));
        } else {
            let mut table = Table::new();
            table.insert("name", value(&node.name));
            table.insert("address", value(node.address.to_string()));
            table.insert("priority", value(i64::from(node.priority)));
            table.insert("keys", value(keys.word()));
            nodes.push(table);
        }
    }
    Ok(document.to_string())
}

/// A cluster's first generation, and the word that puts it in force.
pub fn found(
    text: String,
    name: &str,
    secret: &[u8; 32],
    keys: &NodeKeys,
    time: u64,
) -> Result<(Generation, SignedRecord), FoundError> {
    let cluster = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let nothing = Secrets { cluster, epoch: 1, ..Secrets::default() };
    let draft = Draft::new(text, Path::new("the configuration"), &nothing, true)?;
    let roster = roster(&draft.text)?;
    let content = draft.seal(&roster)?;
    let saying = Saying {
        author: name.to_owned(),
        time,
        comment: "the cluster begins".to_owned(),
        restores: None,
        roster,
    };
    let generation = Generation::new(None, saying, content, keys);
    let record = Record {
        generation: generation.id(),
        word: Word::InForce,
        by: name.to_owned(),
        time,
        why: String::new(),
    };
    Ok((generation, SignedRecord::new(record, keys)))
}

/// Why there is no first generation.
#[derive(Debug, Error)]
pub enum FoundError {
    /// The configuration, or a file that it names.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster_of;
    use crate::shared::keys::tests::keys;

    fn founding() -> Founding {
        Founding {
            ip: "192.168.50.8/24".to_owned(),
            mode: "unicast".to_owned(),
            node: NewNode { name: "arr1".to_owned(), address: Ipv4Addr::new(192, 168, 50, 6), priority: 1 },
            exchange: Some(Exchange {
                names: vec!["mail.example.test".to_owned(), "autodiscover.example.test".to_owned()],
                servers: vec!["10.0.0.36".to_owned()],
                certificate: "/root/my \"mail\".pfx".into(),
                key: None,
                password_file: Some("/root/mail.password".into()),
            }),
        }
    }

    fn checked(text: &str) -> crate::config::model::Cluster {
        cluster_of(text.as_bytes(), Path::new("test")).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn what_a_cluster_begins_with_is_sound_with_and_without_exchange() {
        let (with, keys) = (founding(), keys(1).public());
        let cluster = checked(&with.text(&keys));
        assert_eq!(cluster.nodes[0].keys.as_ref(), Some(&keys));
        assert_eq!(cluster.sites[0].certificate, Path::new("/root/my \"mail\".pfx"));
        let without = checked(&Founding { exchange: None, ..with }.text(&keys));
        assert_eq!(without.sites.len(), 0);
    }

    #[test]
    fn a_node_comes_in_and_all_else_stays_as_it_was_written() {
        let text = founding().text(&keys(1).public());
        let node = NewNode { name: "arr2".to_owned(), address: Ipv4Addr::new(192, 168, 50, 7), priority: 2 };
        let with = with_node(&text, &node, &keys(2).public()).unwrap();
        let nodes: Vec<_> = checked(&with).nodes.into_iter().map(|node| (node.name, node.keys)).collect();
        let wanted =
            [("arr1".to_owned(), Some(keys(1).public())), ("arr2".to_owned(), Some(keys(2).public()))];
        assert_eq!(nodes, wanted);
        text.lines().for_each(|line| assert!(with.contains(line), "{line}"));
        let again = with_node(&with, &node, &keys(3).public()).unwrap();
        assert_eq!(checked(&again).nodes[1].keys, Some(keys(3).public()));
        assert_eq!(again.matches("arr2").count(), 1);
    }
}
