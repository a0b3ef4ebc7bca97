//! applicationHost.config, and what NLB's tools print -> this configuration, for who comes from Windows.
//!
//! ```text
//! bytes -> text -> xml -> model (read) -> draft (map) -> file (write);   every node on the way is in a ledger -> report
//! ```
//!
//! All of it is pure but the callers: which files there are, and what certificates say, they bring along. Nothing is dropped silently:
//! what no reader knows is refused with its line. Encrypted values are not read, and no value is ever reported.

pub mod cutover;
pub mod draft;
pub mod hosts;
pub mod ledger;
pub mod map;
pub mod model;
pub mod nlb;
pub mod read;
pub mod report;
pub mod text;
pub mod write;
pub mod xml;

use thiserror::Error;

use self::ledger::{Became, Finding, Ledger};
use self::map::{Known, Mapped};
use self::nlb::Nlb;
use self::report::Report;
use self::text::TextError;
use self::xml::XmlError;

/// A file that was read: what to call it, and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// What an import is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// applicationHost.config.
    pub host: Option<File<'a>>,
    /// administration.config, of which nothing is needed.
    pub administration: Option<File<'a>>,
    /// The names of files that are of no use: configEncKey.key and others of the folder.
    pub others: Vec<(&'a str, Became)>,
    /// What NLB's tools printed.
    pub nlb: Vec<File<'a>>,
}

/// What an import comes to.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// The cluster file.
    pub configuration: String,
    /// What became of each setting.
    pub report: Report,
}

impl Imported {
    /// Whether it can be used as it stands and does all that was there: nothing to be filled in, nothing refused.
    pub fn is_complete(&self) -> bool {
        self.report.blanks.is_empty() && self.report.count("refused") == 0
    }
}

/// Why a file cannot be imported at all. It is the file's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// No text.
    #[error("{file}: {source}")]
    Text {
        /// The file.
        file: String,
        /// Why not.
        source: TextError,
    },
    /// No XML.
    #[error("{file}: {source}")]
    Xml {
        /// The file.
        file: String,
        /// Why not.
        source: XmlError,
    },
    /// Another file.
    #[error(
        "{file}: the outermost element is {name}, not configuration; hint: applicationHost.config is in %windir%\\System32\\inetsrv\\config"
    )]
    NotIis {
        /// The file.
        file: String,
        /// Its element.
        name: String,
    },
}

/// Carries over what `sources` say; `known` is what is known beside, but for NLB, which they may tell of.
pub fn import(sources: &Sources<'_>, known: Known) -> Result<Imported, ImportError> {
    let mut known = known;
    let mut report = Report::default();
    let mut nlb = Nlb::default();
    let mut told = Vec::new();
    for file in &sources.nlb {
        told.push((file.name.to_owned(), nlb::read(&decoded(*file)?, &mut nlb)));
    }
    if !told.is_empty() {
        known.nlb = Some(nlb);
    }
    if let Some(file) = sources.host {
        let root = parsed(file)?;
        let mut ledger = Ledger::of(&root);
        let model = read::read(&root, &mut ledger);
        let Mapped { draft, remarks } = map::map(&model, &known, &mut ledger);
        report.files.push((file.name.to_owned(), ledger.findings()));
        report.remarks = remarks;
        let configuration = write::text(&draft);
        report.blanks = write::blanks(&configuration);
        report.files.extend(others(sources)?);
        report.files.extend(told);
        return Ok(Imported { configuration, report });
    }
    report.files.extend(told);
    Ok(Imported { configuration: String::new(), report })
}

/// Files of which nothing is needed.
fn others(sources: &Sources<'_>) -> Result<Vec<(String, Vec<Finding>)>, ImportError> {
    let mut files = Vec::new();
    if let Some(file) = sources.administration {
        let root = parsed(file)?;
        let mut ledger = Ledger::of(&root);
        ledger.settle_all(&root, &Became::unneeded("who may use which page of IIS's user interface"));
        files.push((file.name.to_owned(), ledger.findings()));
    }
    for (name, became) in &sources.others {
        let finding = Finding { line: 0, path: (*name).to_owned(), became: became.clone() };
        files.push(((*name).to_owned(), vec![finding]));
    }
    Ok(files)
}

fn decoded(file: File<'_>) -> Result<String, ImportError> {
    text::decode(file.bytes).map_err(|source| ImportError::Text { file: file.name.to_owned(), source })
}

fn parsed(file: File<'_>) -> Result<xml::Element, ImportError> {
    let text = decoded(file)?;
    let root = xml::parse(&text).map_err(|source| ImportError::Xml { file: file.name.to_owned(), source })?;
    if root.name != "configuration" {
        let name = root.name.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(ImportError::NotIis { file: file.name.to_owned(), name });
    }
    Ok(root)
}

#[cfg(test)]
mod tests;
