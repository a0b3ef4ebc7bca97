//! Whether the services behind this node's port rules work: the proxy, and what the operator's own tests find. Pure; the tests are
//! run by `run.rs`.
//!
//! ```text
//! test -> outcome -> Judge, by counts  --.
//!                                         +-> by owner table: works, or not -> cluster thread
//! proxy's status -> Steady, by time   --'
//! ```
//!
//! What is not known yet counts as it was told the cluster thread last: nothing moves because a test has not ended.

pub(super) mod command;
mod judge;
pub(super) mod run;
mod steady;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::judge::Judge;
use self::steady::Steady;
use crate::clock::Time;
use crate::config::model::{Check, Config};
use crate::control::api::{ProxyStatus, ServiceStatus};
use crate::dataplane::Plan;
use crate::dataplane::plan::tables_of;

/// What a test found: that the service works, or in some words that it does not.
pub(super) type Outcome = Result<(), String>;

/// What is known of this node's services.
#[derive(Debug)]
pub(super) struct Services {
    /// By owner table.
    tables: Vec<Needs>,
    tests: Vec<Test>,
    /// By farm, how many servers must be healthy.
    farms: BTreeMap<String, usize>,
    proxy: Option<Steady>,
    /// What is wrong with the proxy, if anything is.
    lack: Option<String>,
    /// Why this node does not work with the configuration in force, if it does not: then no service of it is as it should be.
    objection: Option<String>,
    /// What the cluster thread was told.
    told: Vec<bool>,
}

/// What must work for the rules of an owner table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Its rules.
    rules: String,
    proxy: bool,
    /// Places in `Services::tests`.
    tests: Vec<usize>,
}

#[derive(Debug)]
struct Test {
    check: Check,
    judge: Judge,
    latest: Option<Outcome>,
}

impl Services {
    /// Before anything is known; `told`: what the cluster thread was told at its start, by owner table.
    pub(super) fn new(config: &Config, plan: &Plan, told: Vec<bool>) -> Self {
        let mut tests: Vec<Test> = Vec::new();
        let of_table = |(index, table): (usize, &crate::dataplane::TablePlan)| Needs {
            rules: table.rules.join(", "),
            proxy: is_the_proxys(config, index),
            tests: table.checks.iter().map(|check| place_of(&mut tests, check)).collect(),
        };
        let tables: Vec<Needs> = plan.tables.iter().enumerate().map(of_table).collect();
        let proxied = || tables.iter().zip(&told).filter(|(needs, _)| needs.proxy);
        let proxy = tables.iter().any(|needs| needs.proxy);
        let proxy = proxy.then(|| Steady::new(proxied().any(|(_, told)| *told)));
        Self { tables, tests, farms: farms_of(config), proxy, lack: None, objection: None, told }
    }

    /// Something else is published, under the same rules.
    pub(super) fn handle_reload(&mut self, config: &Config) {
        self.farms = farms_of(config);
        for (index, needs) in self.tables.iter_mut().enumerate() {
            needs.proxy = is_the_proxys(config, index);
        }
    }

    /// By owner table, whether nothing has to be found out first.
    pub(super) fn known_at_start(config: &Config, plan: &Plan) -> Vec<bool> {
        let services = Self::new(config, plan, Vec::new());
        services.tables.iter().map(|needs| !needs.proxy && needs.tests.is_empty()).collect()
    }

    /// What is to be tested, in the order of their numbers.
    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.tests.iter().map(|test| &test.check)
    }

    /// What the test with this number found.
    pub(super) fn handle_outcome(&mut self, test: usize, outcome: Outcome) {
        if let Some(test) = self.tests.get_mut(test) {
            test.judge.record(outcome.is_ok(), &test.check);
            test.latest = Some(outcome);
        }
    }

    /// How the proxy is.
    pub(super) fn handle_proxy(&mut self, status: &ProxyStatus, now: Time) {
        self.lack = self.lack_of(status);
        if let Some(steady) = &mut self.proxy {
            steady.handle(status.alive, self.lack.is_none(), now);
        }
    }

    /// Why this node does not work with the configuration in force; `None`: it does.
    pub(super) fn handle_objection(&mut self, objection: Option<String>) {
        self.objection = objection;
    }

    /// Time went by.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if let Some(steady) = &mut self.proxy {
            steady.handle_timeout(now);
        }
    }

    /// When `handle_timeout` next has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.proxy.as_ref().and_then(Steady::poll_timeout)
    }

    /// What the cluster thread is to be told, by owner table, if that is news.
    pub(super) fn news(&mut self) -> Option<Vec<bool>> {
        let known = |(needs, told): (&Needs, &bool)| self.works(needs).unwrap_or(*told);
        let now: Vec<bool> = self.tables.iter().zip(&self.told).map(known).collect();
        let news = now != self.told;
        self.told.clone_from(&now);
        news.then_some(now)
    }

    /// By owner table, for the operator; `None` where nothing is tested.
    pub(super) fn status(&self) -> Vec<Option<ServiceStatus>> {
        let status = |(index, needs): (usize, &Needs)| {
            let tested = needs.proxy || !needs.tests.is_empty() || self.objection.is_some();
            tested.then(|| ServiceStatus {
                tests: self.names(needs),
                works: self.works(needs),
                trouble: self.trouble(index),
            })
        };
        self.tables.iter().enumerate().map(status).collect()
    }

    /// The sentence on a change of an owner table's service.
    pub(super) fn sentence(&self, table: usize, works: bool) -> String {
        let rules = self.tables.get(table).map_or("", |needs| needs.rules.as_str());
        if works {
            return format!("the service of {rules} works on this node");
        }
        let why = self.trouble(table).map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "the service of {rules} does not work on this node{why}: its share goes to nodes where it does"
        )
    }

    /// Whether all that it needs works; `None`: that is not known of all, and nothing is known to fail.
    fn works(&self, needs: &Needs) -> Option<bool> {
        if self.objection.is_some() {
            return Some(false);
        }
        let proxy = needs.proxy.then(|| self.proxy.as_ref().is_none_or(Steady::is_ready));
        let tests = needs.tests.iter().map(|&test| self.tests.get(test)?.judge.works());
        let all: Vec<Option<bool>> = proxy.map(Some).into_iter().chain(tests).collect();
        if all.contains(&Some(false)) {
            return Some(false);
        }
        all.iter().all(Option::is_some).then_some(true)
    }

    /// What its latest tests say is wrong.
    fn trouble(&self, table: usize) -> Option<String> {
        let needs = self.tables.get(table)?;
        let proxy = self.lack.as_ref().filter(|_| needs.proxy).cloned();
        let of_test = |&test: &usize| {
            let test = self.tests.get(test)?;
            let why = test.latest.as_ref()?.as_ref().err()?;
            Some(format!("{}: {why}", test.check.kind))
        };
        self.objection.clone().or(proxy).or_else(|| needs.tests.iter().find_map(of_test))
    }

    fn names(&self, needs: &Needs) -> Vec<String> {
        let tests = needs.tests.iter().filter_map(|&test| self.tests.get(test));
        let proxy = needs.proxy.then(|| "proxy".to_owned());
        proxy.into_iter().chain(tests.map(|test| test.check.kind.to_string())).collect()
    }

    /// What the proxy lacks to be ready.
    fn lack_of(&self, status: &ProxyStatus) -> Option<String> {
        if !status.alive {
            return Some("the proxy is not running".to_owned());
        }
        let healthy =
            |farm: &str| status.servers.iter().filter(|server| server.farm == farm && server.healthy).count();
        // Farms of no site are not the proxy's.
        let served = |farm: &str| status.servers.iter().any(|server| server.farm == farm);
        let lacking = self.farms.iter().find(|(farm, least)| served(farm) && healthy(farm) < **least);
        if let Some((farm, least)) = lacking {
            let servers = if *least == 1 { "server" } else { "servers" };
            return Some(format!(
                "{} of {least} needed {servers} of the farm {farm} passes its health test",
                healthy(farm)
            ));
        }
        (!status.ready).then(|| "the proxy does not accept connections".to_owned())
    }
}

/// By farm, how many servers must be healthy.
fn farms_of(config: &Config) -> BTreeMap<String, usize> {
    let farms = config.cluster.farms.iter().map(|farm| (farm.name.clone(), farm.min_servers));
    let pools = config.cluster.tcp.iter().flat_map(|service| service.pools().map(|(name, _)| (name, 1)));
    farms.chain(pools).collect()
}

/// Whether a rule of this owner table covers what the proxy listens on.
pub(super) fn is_the_proxys(config: &Config, table: usize) -> bool {
    let cluster = &config.cluster;
    let mut rules = cluster.rules.iter().zip(tables_of(&cluster.rules));
    !cluster.observe
        && rules.any(|(rule, its)| {
            its == Some(table) && cluster.listens().any(|at| rule.covers_tcp(at.ip(), at.port()))
        })
}

/// Where a check stands; those that are the same are one.
fn place_of(tests: &mut Vec<Test>, check: &Check) -> usize {
    let known = tests.iter().position(|test| test.check == *check);
    known.unwrap_or_else(|| {
        tests.push(Test { check: check.clone(), judge: Judge::default(), latest: None });
        tests.len() - 1
    })
}
