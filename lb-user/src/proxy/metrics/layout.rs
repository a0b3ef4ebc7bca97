//! The names that become labels, and that the log gives to what a request met. Pure.

use std::collections::BTreeSet;

use crate::config::model::{PathMatch, Route};
use crate::proxy::snapshot::{Site, Snapshot};

/// The names that become labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Sites, and the routes of each.
    pub sites: Vec<Named>,
    /// Farms, and the servers of each; behind them the pools of TCP services.
    pub farms: Vec<Named>,
    /// TCP services.
    pub services: Vec<String>,
}

/// A name and the names below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Unique among its kind.
    pub name: String,
    /// Unique below it.
    pub parts: Vec<String>,
}

/// Who dealt with a request, by indices into the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// The site.
    pub site: Option<usize>,
    /// The site's route.
    pub route: Option<usize>,
    /// The farm; of a TCP service, its pool behind them.
    pub farm: Option<usize>,
    /// The farm's server.
    pub server: Option<usize>,
}

impl Layout {
    /// The names in `snapshot`, in its order. A name that comes twice gets a number.
    pub fn of(snapshot: &Snapshot) -> Self {
        let first_name = |site: &Site| site.names.first().cloned().unwrap_or_default();
        let names = unique(snapshot.sites.iter().map(first_name));
        let routes = snapshot.sites.iter().map(|site| unique(site.service.routes.iter().map(route_name)));
        let groups: Vec<_> = snapshot.server_groups().collect();
        let group_names = unique(groups.iter().map(|group| group.name.clone()));
        let servers =
            groups.iter().map(|group| unique(group.servers.iter().map(|server| server.name.clone())));
        let named = |(name, parts)| Named { name, parts };
        Self {
            sites: names.into_iter().zip(routes).map(named).collect(),
            farms: group_names.into_iter().zip(servers).map(named).collect(),
            services: unique(snapshot.tcp.iter().map(|service| service.name.clone())),
        }
    }

    /// The names of a site and of one of its routes; empty: none.
    pub fn site(&self, site: Option<usize>, route: Option<usize>) -> (&str, &str) {
        names(&self.sites, site, route)
    }

    /// The index of a farm, or pool, with this name.
    pub fn farm(&self, name: &str) -> Option<usize> {
        self.farms.iter().position(|farm| farm.name == name)
    }

    /// The names of a farm and of one of its servers; empty: none.
    pub fn server(&self, farm: Option<usize>, server: Option<usize>) -> (&str, &str) {
        names(&self.farms, farm, server)
    }
}

fn names(all: &[Named], of: Option<usize>, part: Option<usize>) -> (&str, &str) {
    let of = of.and_then(|of| all.get(of));
    let part = of.zip(part).and_then(|(of, part)| of.parts.get(part));
    (of.map_or("", |of| of.name.as_str()), part.map_or("", String::as_str))
}

/// A route is called by its path; `=` before it: that path alone.
fn route_name<F>(route: &Route<F>) -> String {
    match &route.path {
        PathMatch::Under(path) => path.clone(),
        PathMatch::Exactly(path) => format!("={path}"),
    }
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let number = |name: String| {
        let numbered = (2..).map(|number| format!("{name}#{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !seen.contains(name));
        let free = free.unwrap_or(name);
        seen.insert(free.clone());
        free
    };
    names.map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::snapshot::tests::{one_site, tcp_service};

    #[test]
    fn names_are_the_configurations_and_none_comes_twice() {
        let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
        snapshot.tcp.push(tcp_service());
        let route = snapshot.sites[0].service.routes[0].clone();
        let exact = Route { path: PathMatch::Exactly("/".to_owned()), ..route.clone() };
        snapshot.sites[0].service.routes.extend([route, exact]);
        snapshot.sites.push(snapshot.sites[0].clone());
        let layout = Layout::of(&snapshot);
        let names: Vec<_> = layout.sites.iter().map(|site| site.name.as_str()).collect();
        assert_eq!(names, ["mail.example.test", "mail.example.test#2"]);
        assert_eq!(layout.sites[1].parts, ["/", "/#2", "=/"]);
        assert_eq!(layout.site(Some(1), Some(2)), ("mail.example.test#2", "=/"));
        assert_eq!(layout.site(Some(1), None), ("mail.example.test#2", ""));
        assert_eq!(layout.site(Some(2), Some(0)), ("", ""));
        assert_eq!(layout.server(Some(0), Some(0)), ("exchange", "sbex1"));
        assert_eq!(layout.server(Some(2), Some(0)), ("imap/a.test", "second"));
        assert_eq!(layout.services, ["imap"]);
    }
}
