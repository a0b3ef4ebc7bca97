//! `rollcall capture`: what becomes of packets, a line each, as it happens.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::ask::unexpected;
use super::output::{self, grouped, shorten};
use crate::control::api::{Answer, CAPTURE_RATE, MAX_CAPTURE, Request, Sample};
use crate::control::client;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only packets with this reason, as `rollcall status` names it; may be given several times [default: every reason but those of
    /// packets that are not for a cluster IP]
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Sample one of N such packets, at random; of what is sampled, at most 1000 a second are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// End after N packets
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=MAX_CAPTURE))]
    seconds: u64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(run_dir: &Path, args: Args) -> anyhow::Result<()> {
    let Args { reasons, every, count, seconds, json } = args;
    let request = Request::Capture { reasons, every, count, seconds };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut ended = Ok(());
    let mut complete = false;
    let mut see = |answer: Answer| {
        complete |= matches!(answer, Answer::Captured(_) | Answer::Error { .. } | Answer::Invalid { .. });
        let shown = if json { print_json(answer) } else { show(answer) };
        ended = std::mem::replace(&mut ended, Ok(())).and(shown);
    };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let enough = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        anyhow::Ok(client::follow(run_dir, &request, enough, &mut see).await?)
    })?;
    ended?;
    anyhow::ensure!(complete, "the agent ended the capture; hint: if it still runs, look at its log");
    Ok(())
}

fn print_json(answer: Answer) -> anyhow::Result<()> {
    if let Answer::Error { .. } = answer {
        return Err(unexpected(answer));
    }
    output::line(&serde_json::to_string(&answer).context("a sample cannot be printed")?);
    Ok(())
}

fn show(answer: Answer) -> anyhow::Result<()> {
    if let Answer::Sample(sample) = &answer {
        output::line(&line_of(sample));
    } else if let Answer::Skipped { packets } = answer {
        let packets = grouped(packets);
        output::remark(&format!("{packets} more in this second: at most {CAPTURE_RATE} are shown"));
    } else if let Answer::Captured(captured) = &answer {
        let [shown, matched] = [captured.shown, captured.matched].map(grouped);
        output::remark(&format!("{shown} of {matched} packets shown"));
    } else {
        return Err(unexpected(answer));
    }
    Ok(())
}

/// Time (UTC), protocol, source, destination, flags, length, rule, reason: within 100 columns for IPv4.
fn line_of(sample: &Sample) -> String {
    const DAY: u64 = 86_400_000;
    let ms = sample.time_us / 1000 % DAY;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let protocol = if sample.protocol.is_empty() { "-" } else { &sample.protocol };
    let source = end(sample.source, sample.source_port);
    let destination = end(sample.destination, sample.destination_port);
    let rule = shorten(sample.rule.as_deref().unwrap_or("-"), 8);
    let line = format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:03} {protocol:<5} {source:>21} > {destination:<21} {:<3} {:>5} {rule:<8} {}",
        ms % 1000,
        sample.flags,
        sample.length,
        sample.reason,
    );
    line.trim_end().to_owned()
}

fn end(address: Option<IpAddr>, port: u16) -> String {
    match address {
        None => "-".to_owned(),
        Some(address) if port == 0 => address.to_string(),
        Some(address) => SocketAddr::new(address, port).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::verdict::Reason;

    use super::*;
    use crate::dataplane::reasons::{Class, class};

    fn sample(protocol: &str, reason: &str) -> Sample {
        Sample {
            time_us: (86_400 * 3 + 3661) * 1_000_000 + 42_000,
            protocol: protocol.into(),
            source: Some("203.0.113.110".parse().unwrap()),
            source_port: 40_000,
            destination: Some("192.168.150.108".parse().unwrap()),
            destination_port: 443,
            flags: "SP.".into(),
            rule: Some("tcp+udp 8000-8099".into()),
            reason: reason.into(),
            length: 65_535,
        }
    }

    #[test]
    fn a_line_of_tcp_over_ipv4_fits_100_columns_whatever_the_reason() {
        let line = line_of(&sample("tcp", "new-mine"));
        let expected =
            "01:01:01.042 tcp     203.0.113.110:40000 > 192.168.150.108:443   SP. 65535 tcp+udp… new-mine";
        assert_eq!(line, expected);
        let of_tcp = |reason: &Reason| match class(*reason) {
            Class::Passed | Class::LeftToOthers => true,
            // A later fragment has no ports.
            Class::Refused => *reason != Reason::FragmentNoLease,
            Class::NotOurs | Class::Cluster => false,
        };
        for reason in Reason::ALL.iter().copied().filter(of_tcp) {
            let line = line_of(&sample("tcp", reason.as_str()));
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn what_is_not_ip_has_no_ends() {
        let arp = Sample {
            source: None,
            destination: None,
            rule: None,
            flags: String::new(),
            ..sample("", "arp-answered")
        };
        let line = line_of(&arp);
        assert!(line.starts_with("01:01:01.042 -                         - > -"), "{line}");
        assert!(line.ends_with("65535 -        arp-answered"), "{line}");
    }
}
