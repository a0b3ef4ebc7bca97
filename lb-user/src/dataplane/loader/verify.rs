//! The kernel's own look at this version's programs, before anything depends on them.

use super::*;

/// Loads the programs for this plan as [`Dataplane::attach_beneath`] would, so that the kernel's verifier looks at all of them. Nothing is
/// attached or pinned, and the maps are others than those in use; all of it is gone on return.
///
/// # Errors
/// See [`Error`].
pub fn verify(plan: &Plan, interface: &str, beneath: &str) -> Result<(), Error> {
    let (interface, beneath) = (Interface::inspect(interface)?, Interface::inspect(beneath)?);
    let mut ebpf = load_with(plan, interface.mac, None)?;
    if needs_companion(&beneath, beneath.xdp.is_some_and(|xdp| xdp.native)) {
        let companion = tc_program(&mut ebpf).load();
        companion.map_err(|source| refused("load the tc companion", source))?;
    }
    load_lease_with(None).map(drop)
}
