//! What an operator has nodes do: `rollcall start`, `stop`, `drain`, `suspend`, `resume`, `failback`, `forget`, `set` and
//! `rolling-restart`. Each node's answer is a line, with `--json` an object of `node`, `done` and `text`; if any node did not do it
//! the exit status is 1.

use std::path::Path;

use anyhow::Context as _;

use super::ask::unexpected;
use super::confirm::Consent;
use super::{Place, output};
use crate::control::api::{Action, Answer, Nodes, Operated, Request};
use crate::control::client;

pub(super) mod drain;
mod look;
pub(super) mod rolling;

/// Which nodes.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The node [default: this one]
    #[arg(conflicts_with = "all")]
    node: Option<String>,
    /// Every configured node
    #[arg(long)]
    all: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What was typed for a node as a whole.
#[derive(Debug, clap::Args)]
pub(super) struct Whole {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    form: Form,
}

/// What was typed for a node or one port rule.
#[derive(Debug, clap::Args)]
pub(super) struct OfRule {
    #[command(flatten)]
    which: Which,
    /// Only this port rule: its port, as 443, tcp/443 or 192.168.50.8:443
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// `rollcall set`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Set {
    /// Its load weight against the others', 0 to 100
    Weight {
        /// The weight, or `default` for the configuration's
        #[arg(value_parser = number)]
        weight: Number,
        #[command(flatten)]
        args: OfRule,
        #[command(flatten)]
        place: Place,
    },
    /// Its host priority, 1 to 64: the lowest that lives is the default host and takes `single` rules
    Priority {
        /// The priority, or `default` for the configuration's
        #[arg(value_parser = number)]
        priority: Number,
        /// The node [default: this one]
        node: Option<String>,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        place: Place,
    },
}

/// A number, or that of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(Option<u8>);

fn number(text: &str) -> Result<Number, String> {
    if text == "default" {
        return Ok(Number(None));
    }
    text.parse().map(|number| Number(Some(number))).map_err(|_| "neither a number nor `default`".to_owned())
}

impl Which {
    /// Whom it is about, at the beginning of a sentence.
    fn words(&self) -> String {
        match &self.node {
            Some(node) => node.clone(),
            None if self.all => "Every node".to_owned(),
            None => "This node".to_owned(),
        }
    }

    fn nodes(self) -> Nodes {
        match self.node {
            Some(node) => Nodes::Named(node),
            None if self.all => Nodes::All,
            None => Nodes::This,
        }
    }
}

pub(super) fn of_rule(run_dir: &Path, action: Action, args: OfRule) -> anyhow::Result<()> {
    let OfRule { which, rule, form } = args;
    show(&ask(run_dir, action, which.nodes(), rule)?, form)
}

pub(super) fn whole(run_dir: &Path, action: Action, args: Whole) -> anyhow::Result<()> {
    show(&ask(run_dir, action, args.which.nodes(), None)?, args.form)
}

pub(super) fn stop(run_dir: &Path, args: OfRule, consent: Consent) -> anyhow::Result<()> {
    let ends = if args.rule.is_some() {
        "hands over its share of that rule"
    } else {
        "stops, and its connections end"
    };
    consent.ask(&format!("{} {ends}", args.which.words()))?;
    of_rule(run_dir, Action::Stop, args)
}

pub(super) fn suspend(run_dir: &Path, args: Whole, consent: Consent) -> anyhow::Result<()> {
    consent.ask(&format!("{} stops, and its connections end", args.which.words()))?;
    whole(run_dir, Action::Suspend, args)
}

pub(super) fn forget(run_dir: &Path, node: String, consent: Consent, form: Form) -> anyhow::Result<()> {
    consent.ask(&format!("What is left of {node}'s connections is reset; be sure that it is gone"))?;
    show(&ask(run_dir, Action::Forget { node }, Nodes::All, None)?, form)
}

pub(super) fn set(set: Set) -> anyhow::Result<()> {
    match set {
        Set::Weight { weight: Number(weight), args, place } => {
            of_rule(&place.run_dir, Action::SetWeight { weight }, args)
        }
        Set::Priority { priority: Number(priority), node, form, place } => {
            let nodes = node.map_or(Nodes::This, Nodes::Named);
            show(&ask(&place.run_dir, Action::SetPriority { priority }, nodes, None)?, form)
        }
    }
}

/// Has the agent tell them, and gives what each answered.
fn ask(run_dir: &Path, action: Action, nodes: Nodes, rule: Option<String>) -> anyhow::Result<Vec<Operated>> {
    let answer = client::ask(run_dir, &Request::Operate { action, nodes, rule })?;
    let Answer::Operated { nodes } = answer else {
        return Err(unexpected(answer));
    };
    Ok(nodes)
}

fn show(nodes: &[Operated], form: Form) -> anyhow::Result<()> {
    for node in nodes {
        if form.json {
            output::line(&serde_json::to_string(node).context("the answer cannot be printed")?);
        } else if node.done {
            output::line(&format!("{} {}", node.node, node.text));
        } else {
            output::alarm(&format!("{} did not: {}", node.node, node.text));
        }
    }
    let not: Vec<&str> = nodes.iter().filter(|node| !node.done).map(|node| node.node.as_str()).collect();
    if not.is_empty() {
        return Ok(());
    }
    Err(anyhow::anyhow!("not done by {} of {}: {}", not.len(), nodes.len(), not.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_the_word_default_is_set() {
        assert_eq!(number("0"), Ok(Number(Some(0))));
        assert_eq!(number("default"), Ok(Number(None)));
        assert!(number("256").is_err() && number("-1").is_err() && number("").is_err());
    }
}
