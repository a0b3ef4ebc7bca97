//! Bench `proxy`: what a request, a download, a handshake and a connection at rest cost Rollcall's proxy, haproxy and nginx; one
//! after the other in every round, each on one CPU, in front of the same server and under the same load.
//!
//! CPU time counts first: it is what the kernel charged the proxy's processes. A ratio is the median of the rounds' own ratios. All
//! runs at a real-time priority where that is allowed, since a proxy that others interrupt finds its caches cold each time.

mod figures;
mod greet;
mod load;
mod ours;
mod peers;
mod place;
mod subject;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::figures::{Figures, Measure};
use self::greet::{Greeters, Resting};
use self::load::Done;
use self::ours::Ours;
use self::place::{GIBIBYTE, MEBIBYTE, Place, SMALL};
use self::subject::{Running, Subject};
use super::store;
use crate::report::{Progress, line};
use crate::sys;

/// What proxies are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// TLS on both sides, and what each does unasked.
    Plain,
    /// What `[exchange]` does.
    Exchange,
}

impl Profile {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Exchange => "exchange",
        }
    }
}

/// What to measure, and how long.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One short round.
    pub quick: bool,
    /// Print JSON.
    pub json: bool,
    /// This profile alone.
    pub profile: Option<Profile>,
    /// Cases whose names begin so.
    pub case: Option<String>,
    /// How many rounds.
    pub rounds: Option<u32>,
    /// Another build of rollcall, to be measured beside this one; nginx is left out then.
    pub beside: Option<PathBuf>,
}

/// Measures, prints and writes `target/bench/proxy.json`.
pub fn run(options: &Options) -> Result<()> {
    let profiles = options.profile.map_or(vec![Profile::Plain, Profile::Exchange], |profile| vec![profile]);
    let cases = |profile: Profile| -> Vec<Case> {
        Case::ALL.into_iter().filter(|case| case.is_in(profile) && options.wants(*case)).collect()
    };
    let steps: usize = profiles.iter().map(|profile| cases(*profile).len()).sum();
    ensure!(steps > 0, "no case begins with {:?}", options.case.as_deref().unwrap_or_default());
    if let Err(error) = before_all_others() {
        eprintln!("warning: what else runs on this machine is in the figures: {error:#}");
    }
    let progress = Progress::of(steps * usize::try_from(options.rounds())?);
    let mut rows = Vec::new();
    for profile in profiles {
        let cases = cases(profile);
        if cases.is_empty() {
            continue;
        }
        let figures = measure(profile, &cases, options, &progress)?;
        if !options.json {
            progress.say(figures.table(profile));
        }
        rows.extend(figures.rows(profile));
    }
    drop(progress);
    let text = store("proxy", &rows)?;
    if options.json {
        line(text);
    }
    Ok(())
}

/// Gives this process, and with it what it starts, a real-time priority; in turns with others that have one.
fn before_all_others() -> Result<()> {
    sys::run("chrt", ["--rr", "--pid", "1", &std::process::id().to_string()]).map(drop)
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Rest,
    Small,
    /// `Small` by HTTP/2, which `[exchange]` does not speak.
    Http2,
    Mebibyte,
    Gibibyte,
    Full,
    Resumed,
}

impl Case {
    const ALL: [Self; 7] =
        [Self::Rest, Self::Small, Self::Http2, Self::Mebibyte, Self::Gibibyte, Self::Full, Self::Resumed];

    fn is_in(self, profile: Profile) -> bool {
        profile == Profile::Plain || self != Self::Http2
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "at rest",
            Self::Small => "small page",
            Self::Http2 => "HTTP/2, small page",
            Self::Mebibyte => "download 1 MiB",
            Self::Gibibyte => "download 1 GiB",
            Self::Full => "full handshake",
            Self::Resumed => "resumed handshake",
        }
    }
}

impl Options {
    fn wants(&self, case: Case) -> bool {
        self.case.as_ref().is_none_or(|wanted| case.as_str().starts_with(wanted))
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 7 })
    }
}

fn measure(profile: Profile, cases: &[Case], options: &Options, progress: &Progress) -> Result<Figures> {
    progress.step(format!("{}: starting the proxies", profile.as_str()));
    let place = Place::raise()?;
    let subjects = subjects(&place, profile, options)?;
    if profile == Profile::Exchange && !options.json {
        progress.say(format!(
            "haproxy's file in *exchange*:\n{}",
            peers::haproxy_file(&place, profile, HAPROXY)?
        ));
    }
    let mut figures = Figures::default();
    for round in 0..options.rounds() {
        for case in cases {
            progress.step(format!("{}, round {}: {}", profile.as_str(), round + 1, case.as_str()));
            // Memory is what it is; and nobody is first in every round.
            if *case != Case::Rest || round == 0 {
                for index in 0..subjects.len() {
                    let subject = &subjects[(index + usize::try_from(round)?) % subjects.len()];
                    let measured = one(&place, subject, *case, options.quick);
                    let measured =
                        measured.with_context(|| format!("{}, {}", subject.name, case.as_str()))?;
                    figures.add(*case, subject.name, measured);
                }
            }
            progress.advance();
        }
    }
    drop(subjects);
    let left = place.tear_down();
    ensure!(left.is_empty(), "the bench left behind: {}", left.join(", "));
    Ok(figures)
}

fn subjects(place: &Place, profile: Profile, options: &Options) -> Result<Vec<Subject>> {
    let ours = |port, program: &Path| -> Result<Running> {
        Ok(Running::Ours(Ours::start(place, profile, port, program.to_owned())?))
    };
    let own = std::env::current_exe()?.with_file_name("rollcall");
    let mut subjects = vec![Subject::new(figures::OURS, 443, ours(443, &own)?)];
    if let Some(other) = &options.beside {
        subjects.push(Subject::new(figures::BESIDE, 444, ours(444, other)?));
    }
    let haproxy = Running::Peer(peers::haproxy(place, profile, HAPROXY)?);
    subjects.push(Subject::new(figures::HAPROXY, HAPROXY, haproxy));
    if options.beside.is_none() {
        let nginx = Running::Peer(peers::nginx(place, profile, NGINX)?);
        subjects.push(Subject::new(figures::NGINX, NGINX, nginx));
    }
    Ok(subjects)
}

/// One case, once.
fn one(place: &Place, subject: &Subject, case: Case, quick: bool) -> Result<Vec<(Measure, f64)>> {
    let (time, port) = (Duration::from_secs(if quick { 1 } else { 2 }), subject.port);
    let handshakes = if quick { 200 } else { 800 };
    if case == Case::Rest {
        return at_rest(place, subject, Place::resting());
    }
    let greeters = match case {
        Case::Full | Case::Resumed => Some(Greeters::new(place, port, case == Case::Resumed)?),
        Case::Rest | Case::Small | Case::Http2 | Case::Mebibyte | Case::Gibibyte => None,
    };
    let before = subject.cpu_time()?;
    let done = match (case, &greeters) {
        (Case::Small, _) => load::wrk(place, port, SMALL, 16, time)?,
        (Case::Http2, _) => load::h2load(place, port, SMALL, (4, 4), time)?,
        (Case::Mebibyte, _) => load::wrk(place, port, MEBIBYTE, 4, time)?,
        (_, Some(greeters)) => greeters.greet(place, handshakes)?,
        (_, None) => load::download(place, port, GIBIBYTE, 1 << 30)?,
    };
    // What is still to be done, such as lines of the log, and what of a time slice is not yet accounted for.
    thread::sleep(Duration::from_millis(50));
    let cpu = (subject.cpu_time()? - before).as_secs_f64();
    Ok(measures(case, done, cpu))
}

fn measures(case: Case, done: Done, cpu: f64) -> Vec<(Measure, f64)> {
    let gibibytes = done.bytes / f64::from(1 << 30);
    match case {
        Case::Small | Case::Http2 => vec![
            (Measure::Cpu, cpu / done.requests * 1e6),
            (Measure::Rate, done.requests / done.seconds),
            (Measure::P50, done.p50_ms),
            (Measure::P99, done.p99_ms),
        ],
        Case::Mebibyte | Case::Gibibyte => {
            vec![(Measure::CpuOfBytes, cpu / gibibytes), (Measure::Throughput, gibibytes / done.seconds)]
        }
        Case::Full | Case::Resumed => {
            vec![(Measure::Cpu, cpu / done.requests * 1e6), (Measure::Rate, done.requests / done.seconds)]
        }
        Case::Rest => Vec::new(),
    }
}

fn at_rest(place: &Place, subject: &Subject, count: u32) -> Result<Vec<(Measure, f64)>> {
    // What the first connections have it load belongs to none of the others.
    drop(Resting::open(place, subject.port, 50)?);
    thread::sleep(Duration::from_millis(200));
    let before = subject.memory()?;
    let resting = Resting::open(place, subject.port, count)?;
    thread::sleep(Duration::from_millis(200));
    let bytes = subject.memory()?.saturating_sub(before);
    resting.still_open()?;
    let count = resting.count() as f64;
    drop(resting);
    // Ending them is work, which belongs to no other case.
    thread::sleep(Duration::from_secs(2));
    Ok(vec![(Measure::Memory, bytes as f64 / count / 1024.0), (Measure::Connections, count)])
}

const HAPROXY: u16 = 445;
const NGINX: u16 = 446;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_do_every_case_without_an_error() {
        for profile in [Profile::Plain, Profile::Exchange] {
            let place = Place::raise().unwrap();
            let haproxy = Running::Peer(peers::haproxy(&place, profile, HAPROXY).unwrap());
            let nginx = Running::Peer(peers::nginx(&place, profile, NGINX).unwrap());
            for subject in [Subject::new("haproxy", HAPROXY, haproxy), Subject::new("nginx", NGINX, nginx)] {
                let cases = [Case::Small, Case::Http2, Case::Full, Case::Resumed];
                for case in cases.into_iter().filter(|case| case.is_in(profile)) {
                    let found = one(&place, &subject, case, true).unwrap();
                    assert!(!found.is_empty(), "{} {case:?}", subject.name);
                }
                assert!(!at_rest(&place, &subject, 40).unwrap().is_empty(), "{} at rest", subject.name);
            }
        }
    }
}
