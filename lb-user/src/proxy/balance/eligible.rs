//! Which servers may take a request at all. Pure: sets in, sets out.

use super::set::ServerSet;

/// What is known of a farm's servers at one moment, with the health test that counts for the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Take new clients.
    pub active: ServerSet,
    /// Keep the clients that they have: active or draining.
    pub admitting: ServerSet,
    /// Those that stand by.
    pub backups: ServerSet,
    /// Passed their tests.
    pub healthy: ServerSet,
    /// Failed them. In neither: not tested yet.
    pub unhealthy: ServerSet,
    /// With fewer working servers than this, health is waived; 0: never.
    pub min_servers: usize,
}

impl View {
    /// The servers that may take a new client, except those in `tried`: of the best kind of which one is left.
    ///
    /// 1. The servers that work: healthy, or untested where none is healthy, so that a proxy that was just started answers
    ///    before its first tests are through. If fewer work than `min_servers`, all active ones, healthy or not.
    /// 2. The untested ones.
    /// 3. Backups that work, and then untested backups. They are known to be better than what follows.
    /// 4. With `min_servers`, all active ones, and then all active backups.
    ///
    /// Draining servers are not among them even where health is waived: draining is the operator's word, not a test's.
    pub fn candidates(&self, tried: ServerSet) -> ServerSet {
        let primaries = self.active - self.backups;
        let standby = self.active & self.backups;
        let waived = |servers| if self.min_servers > 0 { servers } else { ServerSet::EMPTY };
        let first = if self.are_too_few() { primaries } else { self.working(primaries) };
        let kinds = [
            first,
            self.untested(primaries),
            self.working(standby),
            self.untested(standby),
            waived(primaries),
            waived(standby),
        ];
        kinds.into_iter().map(|kind| kind - tried).find(|kind| !kind.is_empty()).unwrap_or_default()
    }

    /// Whether a client that the server serves already may stay with it.
    pub fn keeps(&self, server: usize) -> bool {
        let works = !self.unhealthy.contains(server) || self.working_count() < self.min_servers;
        self.admitting.contains(server) && works
    }

    /// Some work, and would not bear the load of all.
    fn are_too_few(&self) -> bool {
        (1..self.min_servers).contains(&self.working_count())
    }

    fn working_count(&self) -> usize {
        self.working(self.active - self.backups).len()
    }

    fn working(&self, servers: ServerSet) -> ServerSet {
        let healthy = servers & self.healthy;
        if healthy.is_empty() { self.untested(servers) } else { healthy }
    }

    fn untested(&self, servers: ServerSet) -> ServerSet {
        servers - self.healthy - self.unhealthy
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One letter a server: `h`ealthy, `u`nhealthy, `n`ot tested, all active; `d`raining and healthy, `x` disabled and healthy;
    /// in capitals: a backup.
    fn view(servers: &str, min_servers: usize) -> View {
        let those = |letters: &str| {
            let fits = |(_, letter): &(usize, char)| letters.contains(*letter);
            servers.chars().enumerate().filter(fits).map(|(index, _)| index).collect()
        };
        View {
            active: those("hunHUN"),
            admitting: those("hundHUND"),
            backups: those("HUNDX"),
            healthy: those("hdxHDX"),
            unhealthy: those("uU"),
            min_servers,
        }
    }

    fn candidates(servers: &str, min_servers: usize, tried: &[usize]) -> Vec<usize> {
        view(servers, min_servers).candidates(tried.iter().copied().collect()).iter().collect()
    }

    #[test]
    fn a_new_client_gets_one_of_the_best_kind_that_is_left() {
        for (servers, min_servers, tried, wanted) in [
            ("hhh", 0, &[][..], &[0, 1, 2][..]),
            ("hun", 0, &[], &[0]),
            ("hun", 0, &[0], &[2]),
            ("hun", 0, &[0, 2], &[]),
            ("unn", 0, &[], &[1, 2]),
            ("uuu", 0, &[], &[]),
            ("", 0, &[], &[]),
            // Draining and disabled.
            ("hdx", 0, &[], &[0]),
            ("hdx", 0, &[0], &[]),
            ("dxu", 0, &[], &[]),
            // Backups.
            ("hHH", 0, &[], &[0]),
            ("hHU", 0, &[0], &[1]),
            ("uHN", 0, &[], &[1]),
            ("uHN", 0, &[1], &[2]),
            ("nH", 0, &[], &[0]),
            ("dH", 0, &[], &[1]),
            ("uDX", 0, &[], &[]),
            // Minimum servers.
            ("huu", 1, &[], &[0]),
            ("huu", 2, &[], &[0, 1, 2]),
            ("huu", 2, &[0, 1], &[2]),
            ("hhu", 2, &[], &[0, 1]),
            ("uuu", 2, &[], &[0, 1, 2]),
            ("hud", 2, &[], &[0, 1]),
            ("hux", 3, &[], &[0, 1]),
            ("nnu", 3, &[], &[0, 1, 2]),
            ("uuH", 1, &[], &[2]),
            ("uuH", 1, &[2], &[0, 1]),
            ("uU", 1, &[0], &[1]),
        ] {
            assert_eq!(candidates(servers, min_servers, tried), wanted, "{servers} {min_servers} {tried:?}");
        }
    }

    #[test]
    fn a_client_stays_with_a_server_that_is_neither_disabled_nor_unhealthy() {
        for (servers, min_servers, wanted) in [
            ("hundxHUNDX", 0, "ynyynynyyn"),
            ("uuu", 0, "nnn"),
            ("uuu", 1, "yyy"),
            ("uhd", 1, "nyy"),
            ("uhd", 2, "yyy"),
            ("uhx", 2, "yyn"),
        ] {
            let view = view(servers, min_servers);
            let keeps: String =
                (0..servers.len()).map(|server| if view.keeps(server) { 'y' } else { 'n' }).collect();
            assert_eq!(keeps, wanted, "{servers} {min_servers}");
        }
    }

    proptest! {
        #[test]
        fn only_active_untried_servers_are_candidates(servers in "[hundxHUNDX]{0,12}", min_servers in 0..4_usize, tried in any::<u16>()) {
            let tried: ServerSet = (0..12).filter(|server| tried >> server & 1 == 1).collect();
            let view = view(&servers, min_servers);
            let candidates = view.candidates(tried);
            prop_assert!((candidates - view.active).is_empty());
            prop_assert!((candidates & tried).is_empty());
            prop_assert!(min_servers > 0 || (candidates & view.unhealthy).is_empty());
            let primaries = candidates - view.backups;
            prop_assert!(primaries.is_empty() || primaries == candidates, "both kinds at once");
        }
    }
}
