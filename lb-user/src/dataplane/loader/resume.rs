//! The data path after an upgrade in place: what the program before this one in the same process attached and pinned is in use,
//! and stays so. First its maps get their writers, and only when heartbeats go out again is the XDP program replaced.

use super::{
    Dataplane, Error, Interface, Lease, OldLink, OwnerTables, Path, Place, Plan, XdpChoice, foreign_maps,
    load, load_lease, maps, put_in, refused,
};

/// The only writers of the maps that are pinned in `pins`; tables and lease stay as they are.
///
/// # Errors
/// See [`Error`]; also if this version lays a map out otherwise. Nothing was changed.
pub fn writers_of(pins: &Path) -> Result<(OwnerTables, Lease), Error> {
    if let Some(map) = foreign_maps(pins).next() {
        return Err(Error::Layout(map));
    }
    let unusable = |source| refused("use the owner tables", source);
    let pinned = (maps::pinned(pins, "TABLES"), maps::pinned(pins, "ACTIVE"));
    let (tables, active) = (pinned.0.map_err(unusable)?, pinned.1.map_err(unusable)?);
    Ok((OwnerTables::new(tables, active).map_err(unusable)?, load_lease(pins)?))
}

impl Dataplane {
    /// Puts this version's program in the place of the attached one, between two packets, and touches neither tables nor lease.
    /// The writers are those of [`writers_of`]. For the same plan as before.
    ///
    /// # Errors
    /// See [`Error`]; also if nothing is attached that could be replaced. What was attached stays.
    pub fn replace_beneath(
        plan: &Plan,
        interface: &str,
        beneath: &str,
        xdp: XdpChoice,
        pins: &Path,
    ) -> Result<Self, Error> {
        let (interface, beneath) = (Interface::inspect(interface)?, Interface::inspect(beneath)?);
        let place = Place { interface: &interface, beneath: &beneath, choice: xdp, pins };
        let old = OldLink::find(&place).ok_or_else(|| Error::Gone(beneath.name.clone()))?;
        let ebpf = load(plan, interface.mac, pins)?;
        put_in(plan, &place, Some(old), ebpf)
    }
}
