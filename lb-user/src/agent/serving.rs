//! What follows for the agent from what operators want and from how the services are: the proxy's connections, what is kept for the
//! next start, and what the cluster thread is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::checks::{Outcome, Services, is_the_proxys, run};
use super::events::Note;
use super::orders::Answers;
use super::orders::keep::Keeper;
use super::shared::Told;
use super::{Agent, open, status};
use crate::clock::Time;
use crate::cluster::driver::Input;
use crate::cluster::node::{Event, Snapshot};
use crate::cluster::operate::{Intent, Mandate};
use crate::cluster::scan;
use crate::config::model::Config;
use crate::control::api::{ProxyStatus, ServiceStatus};
use crate::dataplane::Plan;
use crate::proxy::supervisor::{News as ProxyNews, Supervisor};

/// How many outcomes of tests may wait for the agent; a test does not begin again before its outcome is taken.
const OUTCOMES: usize = 64;

/// How soon the proxy is looked after again while a node leaves.
const GLANCE: Duration = Duration::from_millis(100);

/// What the agent keeps of all that.
pub(super) struct Serving {
    pub(super) answers: Arc<Answers>,
    pub(super) services: Services,
    pub(super) service_status: watch::Sender<Vec<Option<ServiceStatus>>>,
    pub(super) connections: watch::Receiver<u32>,
    /// The proxy's status, where there is one.
    proxy: Option<watch::Receiver<ProxyStatus>>,
    /// What happens to its workers.
    proxy_news: Option<mpsc::Receiver<ProxyNews>>,
    outcomes: mpsc::Receiver<(usize, Outcome)>,
    /// What this node works with of the configuration that the nodes share, where they do.
    shared: Option<watch::Receiver<Told>>,
    keeper: Keeper,
    /// What the operator wants of this node.
    intent: Intent,
    /// What the proxy was told of it.
    course: Course,
    /// Ends with the agent.
    _tasks: JoinSet<()>,
}

/// What the proxy is to do with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Serve,
    /// Each is served once more.
    Drain,
    /// All end, those of other services too.
    End,
}

/// What there is to do.
pub(super) enum News {
    /// A test has ended.
    Outcome(usize, Outcome),
    /// The proxy's status is another.
    Proxy(Box<ProxyStatus>),
    /// Something happened to its workers.
    Worker(ProxyNews),
    /// This node stands otherwise to the configuration that the nodes share.
    Shared(Box<Told>),
    /// Time went by.
    Time,
}

impl Serving {
    /// Begins to test and to count; `intent`: what the operator wants of the node, `told`: by owner table, what the cluster thread
    /// was told of the services.
    pub(super) fn begin(config: &Config, plan: &Arc<Plan>, intent: Intent, told: Vec<bool>) -> Self {
        let mut tasks = JoinSet::new();
        let (sender, outcomes) = mpsc::channel(OUTCOMES);
        let services = Services::new(config, plan, told);
        if !config.cluster.observe {
            for (number, check) in services.checks().enumerate() {
                let user = config.local.proxy_user.clone();
                tasks.spawn(run::watch(number, check.clone(), user, sender.clone()));
            }
        }
        let (keeper, writer) = Keeper::new(config.local.state_dir.clone(), config.cluster.rules.clone());
        tasks.spawn(writer.run());
        let (counted, connections) = watch::channel(0);
        tasks.spawn(open::count(Arc::clone(plan), counted));
        Self {
            answers: Arc::default(),
            service_status: watch::Sender::new(services.status()),
            services,
            connections,
            proxy: None,
            proxy_news: None,
            outcomes,
            shared: None,
            keeper,
            intent,
            course: Course::Serve,
            _tasks: tasks,
        }
    }

    /// Judges this proxy from now on.
    pub(super) fn follow(&mut self, proxy: &mut Supervisor) {
        self.proxy_news = proxy.news();
        let mut status = proxy.status();
        status.mark_changed();
        self.proxy = Some(status);
    }

    /// Heeds from now on how this node stands to the configuration that the nodes share.
    pub(super) fn heed(&mut self, mut shared: watch::Receiver<Told>) {
        shared.mark_changed();
        self.shared = Some(shared);
    }

    /// What there is to do next. Cancel safe.
    pub(super) async fn next(serving: &mut Option<Self>) -> News {
        let Some(Self { services, proxy, proxy_news, outcomes, shared, intent, course, .. }) = serving else {
            return std::future::pending().await;
        };
        let leaves = match intent {
            Intent::Started => false,
            Intent::Draining => *course == Course::Serve,
            Intent::Stopped | Intent::Suspended => *course != Course::End,
        };
        let due = services.poll_timeout().map(|due| due.since(Time::now()));
        tokio::select! {
            Some((test, outcome)) = outcomes.recv() => News::Outcome(test, outcome),
            status = next_of(proxy) => News::Proxy(Box::new(status)),
            told = next_of(shared) => News::Shared(Box::new(told)),
            news = next_news(proxy_news) => News::Worker(news),
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => News::Time,
            () = tokio::time::sleep(GLANCE), if leaves => News::Time,
        }
    }

    /// How many connections this host has.
    pub(super) fn open(&self) -> u32 {
        *self.connections.borrow()
    }

    /// Waits until what operators told this node is on disk.
    pub(super) async fn settled(&self) {
        self.keeper.settled().await;
    }
}

impl Agent {
    /// Does what follows from news.
    pub(super) fn handle_news(&mut self, news: News) {
        let Some(Serving { services, .. }) = &mut self.serving else { return };
        match news {
            News::Outcome(test, outcome) => services.handle_outcome(test, outcome),
            News::Shared(told) => {
                services.handle_objection(told.objection);
                self.tell(Input::Generations(told.generations));
            }
            News::Proxy(status) => services.handle_proxy(&status, Time::now()),
            News::Worker(ProxyNews { kind, warning, text }) => self.log(Note::new(kind, warning, text)),
            News::Time => services.handle_timeout(Time::now()),
        }
        self.tell_services();
        self.steer_proxy();
    }

    /// Another configuration is in force.
    pub(super) fn reconfigured(&mut self, config: Arc<Config>) {
        self.config = config;
        if let Some(certificates) = &self.certificates {
            certificates.follow(Arc::clone(&self.config));
        }
        if let Some(voice) = &mut self.voice {
            voice.follow(&self.config);
        }
        if let Some(Serving { services, .. }) = &mut self.serving {
            services.handle_reload(&self.config);
        }
        self.tell_services();
    }

    /// Tells the cluster thread, and whoever asks for the status, how the services are.
    fn tell_services(&mut self) {
        let Some(Serving { services, service_status, .. }) = &mut self.serving else { return };
        let status = services.status();
        service_status.send_if_modified(|known| std::mem::replace(known, status) != *known);
        if let Some(ready) = services.news() {
            self.tell(Input::Ready(ready));
        }
    }

    /// What operators want of this node is to be kept.
    pub(super) fn keep(&self, mandate: Mandate) {
        if let Some(serving) = &self.serving {
            serving.keeper.keep(mandate);
        }
    }

    /// Whether there is a configuration with which the agent would come up; else it goes on as it is, and says so.
    pub(super) fn can_start_anew(&self) -> bool {
        let loaded = self.files.load();
        if let Err(errors) = &loaded {
            let text = format!("not restarted: the configuration has errors: {errors}");
            warn!("{text}");
            self.log(Note::new("restart-refused", true, text));
        }
        loaded.is_ok()
    }

    /// The operator wants something else of this node.
    pub(super) fn operated(&mut self, intent: Intent) {
        if let Some(serving) = &mut self.serving {
            serving.intent = intent;
        }
        self.steer_proxy();
    }

    /// Has the proxy do with its connections what the operator wants of the node.
    fn steer_proxy(&mut self) {
        let (Some(serving), Some(cluster)) = (&mut self.serving, &self.cluster) else { return };
        let course = course(serving.intent, &cluster.handle().snapshot(), &self.config, &self.plan);
        if course == serving.course {
            return;
        }
        serving.course = course;
        match (course, &self.proxy) {
            (Course::Serve, Some(proxy)) => proxy.resume(),
            (Course::Drain, Some(proxy)) => proxy.drain(),
            (Course::End, _) => self.end_connections(),
            (Course::Serve | Course::Drain, None) => {}
        }
    }

    /// Ends all connections to the cluster IPs, off this thread: once this node has left, others answer what belongs to them.
    pub(super) fn end_connections(&self) {
        let plan = Arc::clone(&self.plan);
        tokio::task::spawn_blocking(move || {
            match scan::end_connections(|local, remote| plan.locate(local, remote).is_some()) {
                Ok(ended) => info!(ended, "connections to the cluster IPs were ended"),
                Err(error) => {
                    warn!(%error, "cannot end connections: another node will answer them with a reset")
                }
            }
        });
    }

    /// The note on a change of a service, in words that name its rules.
    pub(super) fn service_note(&self, event: &Event, note: Note) -> Note {
        match (event, &self.serving) {
            (Event::Service { table, works }, Some(serving)) => {
                Note { text: serving.services.sentence(usize::from(*table), *works), ..note }
            }
            _ => note,
        }
    }
}

/// The clients of sticky rules stay as long as their buckets do: until then the proxy serves them as ever.
fn course(intent: Intent, snapshot: &Snapshot, config: &Config, plan: &Plan) -> Course {
    let holds = |index: usize| snapshot.tables.get(index).is_some_and(|table| status::held(table) > 0);
    let sticky = |index: usize| plan.tables.get(index).is_some_and(|table| table.spread.stickiness.is_some());
    let stays = |index: usize| is_the_proxys(config, index) && sticky(index) && holds(index);
    match intent {
        Intent::Started => Course::Serve,
        Intent::Draining if (0..plan.tables.len()).any(stays) => Course::Serve,
        Intent::Stopped | Intent::Suspended if !(0..plan.tables.len()).any(holds) => Course::End,
        Intent::Draining | Intent::Stopped | Intent::Suspended => Course::Drain,
    }
}

/// What happens to the proxy's workers; never where there is no proxy.
async fn next_news(news: &mut Option<mpsc::Receiver<ProxyNews>>) -> ProxyNews {
    if let Some(news) = news
        && let Some(news) = news.recv().await
    {
        return news;
    }
    std::future::pending().await
}

/// What is watched whenever it changes; never where nothing is.
async fn next_of<T: Clone>(watched: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(watched) = watched
        && watched.changed().await.is_ok()
    {
        return watched.borrow_and_update().clone();
    }
    // There is none, or who tells has ended with the agent.
    std::future::pending().await
}
