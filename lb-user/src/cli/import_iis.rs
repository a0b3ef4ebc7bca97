//! `rollcall import-iis`: reads files that Windows wrote, and writes a cluster file and what became of each setting. What means what is for
//! `crate::iis`; here are files, certificates and the exit status: 0 where the result can be used as it stands, 2 where something is to be filled
//! in or was refused.

mod certificates;

use std::collections::BTreeMap;
use std::fs::{self, File as Disk, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::output;
use crate::config::{self, ConfigErrors};
use crate::iis::ledger::Became;
use crate::iis::map::{Certificate, Known, Shape};
use crate::iis::{File, Imported, Sources, hosts, import, text};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// applicationHost.config, or the folder that IIS exported its configuration to
    path: PathBuf,
    /// A folder with the sites' certificates and keys, as PEM or .pfx
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
    /// File with the password of the .pfx files in its first line
    #[arg(long, value_name = "FILE", requires = "certificates")]
    password_file: Option<PathBuf>,
    /// What Get-NlbCluster, Get-NlbClusterNode, Get-NlbClusterPortRule or `nlb params` printed; may be given several times
    #[arg(long, value_name = "FILE")]
    nlb: Vec<PathBuf>,
    /// Addresses of servers and nodes that are named, as lines of a hosts file
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// Write [exchange] wherever it is possible [default: where something names Exchange's paths]
    #[arg(long, conflicts_with = "as_is")]
    exchange: bool,
    /// Write farms, sites and rules, one for one
    #[arg(long)]
    as_is: bool,
    /// Where the cluster file is written [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the report is written [default: standard error]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write over files that there are
    #[arg(long)]
    force: bool,
    /// The report as JSON to standard output, with the configuration in it
    #[arg(long)]
    json: bool,
}

/// The result cannot be used as it stands, or does not do all that was there. It was written all the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Incomplete(String);

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut known = Known { shape: shape(args), hosts: named_hosts(args)?, ..Known::default() };
    let mut remarks = Vec::new();
    if let Some(folder) = &args.certificates {
        let found = certificates::find(folder, args.password_file.as_deref())?;
        known.certificates = found.certificates;
        remarks = found.remarks;
    }
    let input = Input::read(args)?;
    let mut imported = import(&input.sources(), known.clone())?;
    imported.report.remarks.extend(unused(&known.certificates, &imported.configuration));
    imported.report.remarks.extend(remarks);
    let checked = check(args, &imported);
    deliver(args, &imported, checked.as_ref().err())?;
    outcome(&imported, checked)
}

fn shape(args: &Args) -> Shape {
    match (args.exchange, args.as_is) {
        (true, _) => Shape::Exchange,
        (false, true) => Shape::AsIs,
        (false, false) => Shape::Fitting,
    }
}

fn named_hosts(args: &Args) -> anyhow::Result<BTreeMap<String, Ipv4Addr>> {
    let Some(path) = &args.hosts else { return Ok(BTreeMap::new()) };
    let text = text::decode(&read(path, text::LONGEST)?).with_context(|| path.display().to_string())?;
    hosts::read(&text).with_context(|| path.display().to_string())
}

/// The files, with what to call them.
struct Input {
    host: (String, Vec<u8>),
    administration: Option<(String, Vec<u8>)>,
    others: Vec<(String, Became)>,
    nlb: Vec<(String, Vec<u8>)>,
}

impl Input {
    fn read(args: &Args) -> anyhow::Result<Self> {
        let named = |path: &Path| Ok::<_, anyhow::Error>((file_name(path), read(path, text::LONGEST)?));
        let nlb = args.nlb.iter().map(|path| named(path)).collect::<Result<_, _>>()?;
        if !args.path.is_dir() {
            return Ok(Self { host: named(&args.path)?, administration: None, others: Vec::new(), nlb });
        }
        let (mut host, mut administration, mut others) = (None, None, Vec::new());
        let listed =
            fs::read_dir(&args.path).with_context(|| format!("cannot read {}", args.path.display()))?;
        let mut paths: Vec<PathBuf> =
            listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        for path in paths.iter().filter(|path| path.is_file()) {
            let name = file_name(path);
            match name.to_ascii_lowercase().as_str() {
                "applicationhost.config" => host = Some(named(path)?),
                "administration.config" => administration = Some(named(path)?),
                // Which key is whose was under a password; no encrypted value is read.
                "configenckey.key" => {
                    others.push((name, Became::unneeded("keys of encrypted values, none of which is read")))
                }
                _ => others.push((name, Became::unneeded("not a part of an exported configuration"))),
            }
        }
        let hint = "hint: in IIS Manager, Shared Configuration, Export Configuration writes it";
        let missing = || format!("there is no applicationHost.config in {}; {hint}", args.path.display());
        Ok(Self { host: host.with_context(missing)?, administration, others, nlb })
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            host: Some(of(&self.host)),
            administration: self.administration.as_ref().map(of),
            others: self.others.iter().map(|(name, became)| (name.as_str(), became.clone())).collect(),
            nlb: self.nlb.iter().map(of).collect(),
        }
    }
}

fn of((name, bytes): &(String, Vec<u8>)) -> File<'_> {
    File { name, bytes }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// At most one byte more than `longest`, so that a device or a wrong file costs little.
fn read(path: &Path, longest: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let file = Disk::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    file.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Certificates that no site has.
fn unused(certificates: &[Certificate], configuration: &str) -> Vec<String> {
    let is_used = |certificate: &&Certificate| configuration.contains(&certificate.path);
    let unused = certificates.iter().filter(|certificate| !is_used(certificate));
    unused.map(|certificate| format!("no site has the certificate {}", certificate.path)).collect()
}

/// Whether `rollcall check` would let it pass; nobody asks while there is something to fill in.
fn check(args: &Args, imported: &Imported) -> Result<(), ConfigErrors> {
    if !imported.report.blanks.is_empty() {
        return Ok(());
    }
    let name = args.out.clone().unwrap_or_else(|| PathBuf::from("cluster.toml"));
    config::check_text(&name, &imported.configuration).map(|_| ())
}

fn deliver(args: &Args, imported: &Imported, errors: Option<&ConfigErrors>) -> anyhow::Result<()> {
    let Imported { configuration, report } = imported;
    if let Some(path) = &args.out {
        write(path, configuration, args.force)?;
    }
    let text = if args.json {
        let errors: Vec<String> =
            errors.iter().flat_map(|errors| &errors.0).map(ToString::to_string).collect();
        let mut object = report.json();
        object["configuration"] = json!(configuration);
        object["errors"] = json!(errors);
        object["complete"] = json!(imported.is_complete() && errors.is_empty());
        object.to_string()
    } else {
        report.text()
    };
    match (&args.report, args.json) {
        (Some(path), _) => write(path, &format!("{}\n", text.trim_end()), args.force)?,
        (None, true) => output::line(&text),
        (None, false) => text.trim_end().lines().for_each(output::remark),
    }
    if args.out.is_none() && !args.json {
        configuration.lines().for_each(output::line);
    }
    Ok(())
}

fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    let there = written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists);
    let hint = if there { "; hint: --force writes over it" } else { "" };
    written.with_context(|| format!("cannot write {}{hint}", path.display()))
}

fn outcome(imported: &Imported, checked: Result<(), ConfigErrors>) -> anyhow::Result<()> {
    checked?;
    if imported.is_complete() {
        return Ok(());
    }
    let (blanks, refused) = (&imported.report.blanks, imported.report.count("refused"));
    let lines: Vec<String> = blanks.iter().map(|(line, _)| line.to_string()).collect();
    let mut parts = Vec::new();
    if !lines.is_empty() {
        parts.push(format!("lines to fill in: {}", lines.join(", ")));
    }
    if refused > 0 {
        parts.push(format!("settings refused: {refused}"));
    }
    let hint = "hint: the report says what each was; then run `rollcall check` on the file";
    Err(Incomplete(format!("the configuration is not complete: {}; {hint}", parts.join("; "))).into())
}
