//! `rollcall certificate`: the certificates that the sites serve, and another one for a site on all nodes.
//!
//! With `--json` one object on one line: a list of [`CertificateEntry`], and of `set` a [`CertificateSet`].

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Place;
use super::ask::{patiently, unexpected};
use super::config::{Tried, told};
use super::output::{self, Column, Table};
use crate::control::api::{Answer, CertificateEntry, CertificateSet, Configure, Request};
use crate::wall::WallTime;

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    look: Look,
}

/// What is looked at.
#[derive(Debug, clap::Args)]
struct Look {
    /// One JSON list on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the certificates: for which sites, until when, and in which file; what `rollcall certificate` does, too
    List(Look),
    /// Give a site another certificate, on all nodes at once
    ///
    /// Made for the hook that an ACME client runs after a renewal. The files are looked at first: key and certificate belong together, the
    /// names cover the site's, and it is valid now. Their contents become part of the configuration, sealed to the nodes; its text stays
    /// as it is. A certificate that the site has already changes nothing, and that is no error.
    Set(Box<Set>),
}

/// `rollcall certificate set`.
#[derive(Debug, clap::Args)]
struct Set {
    /// One of the site's names
    site: String,
    /// The certificate with its chain: PEM, or PKCS#12 as Windows exports it
    file: PathBuf,
    /// Its key, where that is another file
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file whose first line is the password of a PKCS#12 file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// An OCSP response about it (DER), where the site staples one
    #[arg(long, value_name = "FILE")]
    ocsp: Option<PathBuf>,
    /// Why, for the log
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    tried: Tried,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        None => list(&args.look),
        Some(Command::List(look)) => list(&look),
        Some(Command::Set(set)) => replace(*set),
    }
}

fn list(look: &Look) -> anyhow::Result<()> {
    let answer = patiently(&look.place.run_dir, &Request::Certificates)?;
    let Answer::Certificates { certificates } = answer else { return Err(unexpected(answer)) };
    if look.json {
        output::line(&serde_json::to_string(&certificates)?);
    } else {
        table(&certificates).print();
    }
    Ok(())
}

/// A row a site: one that shares its certificate with others is looked for by its own name.
fn table(certificates: &[CertificateEntry]) -> Table {
    let mut table = Table::new(&[
        Column::text("site", 24),
        Column::text("names", 24),
        Column::text("expires", 10),
        Column::number("days"),
        Column::text("fingerprint", 15),
        Column::text("file", 32),
    ]);
    for certificate in certificates {
        let CertificateEntry { sites, names, not_after, days_left, fingerprint, file, .. } = certificate;
        for site in sites {
            let digits = fingerprint.strip_prefix("sha256:").unwrap_or(fingerprint);
            table.row(vec![
                site.clone(),
                names.join(" "),
                not_after.map_or_else(|| "unknown".to_owned(), day),
                days_left.map_or_else(|| "-".to_owned(), |days| days.to_string()),
                digits.chars().take(12).collect(),
                file.clone(),
            ]);
        }
    }
    table
}

fn day(time: WallTime) -> String {
    time.local().chars().take(10).collect()
}

fn replace(set: Set) -> anyhow::Result<()> {
    let Set { site, file, key, password_file, ocsp, comment, dry_run, tried, json, place } = set;
    let absolute = |path: &Path| std::path::absolute(path).context("cannot tell the current folder");
    let wanted = Configure::SetCertificate {
        site,
        certificate: absolute(&file)?,
        key: key.as_deref().map(absolute).transpose()?,
        password_file: password_file.as_deref().map(absolute).transpose()?,
        ocsp: ocsp.as_deref().map(absolute).transpose()?,
        comment,
        dry_run,
        canary: tried.seconds(),
    };
    if !dry_run {
        tried.announce();
    }
    let answer = patiently(&place.run_dir, &Request::Configuration(wanted))?;
    let Answer::CertificateSet(set) = answer else { return Err(unexpected(answer)) };
    if json {
        output::line(&serde_json::to_string(&set)?);
    } else {
        lines(&set).iter().for_each(|line| output::line(line));
    }
    Ok(())
}

fn lines(set: &CertificateSet) -> Vec<String> {
    let CertificateSet { old, new, remarks, applied } = set;
    let Some(applied) = applied else {
        let mut lines =
            vec![format!("{} has this certificate already: nothing changes", new.sites.join(", "))];
        lines.extend(about(new));
        return lines;
    };
    let (before, now) = if applied.dry_run { ("is served", "would be") } else { ("was served", "is now") };
    let mut lines = Vec::new();
    if let Some(old) = old {
        lines.push(format!("{before} for {}:", old.sites.join(", ")));
        lines.extend(about(old));
    }
    lines.push(format!("{now}:"));
    lines.extend(about(new));
    lines.extend(told(applied));
    lines.extend(remarks.iter().map(|remark| format!("note: {remark}")));
    lines
}

fn about(certificate: &CertificateEntry) -> [String; 4] {
    let CertificateEntry { names, issuer, not_after, days_left, fingerprint, .. } = certificate;
    let end = not_after.map_or_else(|| "unknown".to_owned(), WallTime::local);
    let days = days_left.map_or_else(String::new, |days| format!(", in {days} days"));
    [
        format!("  names    {}", names.join(", ")),
        format!("  issuer   {issuer}"),
        format!("  expires  {end}{days}"),
        format!("  {fingerprint}"),
    ]
}
