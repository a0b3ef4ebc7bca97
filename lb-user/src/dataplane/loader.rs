//! plan -> loader -> XDP program: loads the program, attaches it, pins it so that it outlives the agent, replaces it
//! atomically, and takes it away.
//!
//! The folder of pins holds the attachment (`xdp`, and `tc` for the companion) and the maps whose state outlives a program.
//! They belong together: without a living attachment the pins of before are worth nothing, and are removed.

mod resume;
mod verify;

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError, MapInfo, PerCpuArray, RingBuf};
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, loaded_links, loaded_programs,
};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use lb_common::table::{
    self, BucketTable, CAPTURE_BYTES, COUNTERS_A_RULE, Counter, GENERATIONS, NODES, PortRules, RULES,
    SeenTable, TABLES,
};
use rustix::io::Errno;

use super::capture::Captures;
use super::link::{InspectError, Interface};
use super::{Counters, Hearing, InForce, Lease, OwnerTables, Plan, btf, maps};
use crate::arp::format_mac;
use crate::config::model::XdpChoice;
use crate::control::api::InterfaceStatus;

pub use self::resume::writers_of;
pub use self::verify::verify;

/// The compiled XDP program and its companion.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rollcall-xdp.o"));

/// Why the data path could not be set up. What had been attached before stays as it was, and what a failed first attempt
/// made is removed again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface cannot be used.
    #[error(transparent)]
    Interface(#[from] InspectError),
    /// The folder of pins is on no BPF file system.
    #[error(
        "{} is not on a BPF file system; hint: mount -t bpf bpf /sys/fs/bpf; not under `ip netns exec`, which hides it: use `nsenter --net` there",
        .0.display()
    )]
    NoBpffs(PathBuf),
    /// This process lacks privileges.
    #[error("not permitted to {what}; hint: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Somebody else's XDP program is in the way.
    #[error(
        "interface `{interface}` already has the XDP program {program}; hint: stop what attached it, which `bpftool link` may name; `ip link set dev {interface} xdp off` detaches one that nobody holds"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// Name and number of the program.
        program: String,
    },
    /// The kernel cannot attach by a link, which a program needs to be replaced atomically and to outlive the agent.
    #[error(
        "the kernel attaches XDP programs to `{0}` only by netlink, not by a BPF link; hint: Rollcall needs Linux 5.18 or later"
    )]
    NoLink(String),
    /// A map is pinned that another version made.
    #[error("{} was made by another version of the program, which laid it out otherwise", .0.display())]
    Layout(PathBuf),
    /// Nothing is attached any more that could be replaced.
    #[error("the XDP program of `{0}` is no longer attached as it was")]
    Gone(String),
    /// The kernel's type information lacks what the program has to know.
    #[error(
        "cannot read what the XDP program has to know of the running kernel; hint: use a kernel with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Btf(#[from] btf::Error),
    /// The kernel refused something for another reason.
    #[error(
        "could not {what}; hint: Rollcall needs Linux 5.18 or later with BPF; `uname -r` tells which this is"
    )]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A file could not be read or written.
    #[error("could not {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The XDP program on the cluster interface. Dropping it leaves everything attached and pinned: the next agent goes on from
/// there, and until then the lease runs out.
pub struct Dataplane {
    pins: PathBuf,
    status: InterfaceStatus,
    counters: Counters,
    hearing: Hearing,
    in_force: InForce,
    captures: Captures,
    writers: Option<Writers>,
}

struct Writers {
    tables: OwnerTables,
    lease: Lease,
}

/// Where agents pin their programs and maps, a folder for each interface.
pub const PINS: &str = "/sys/fs/bpf/rollcall";

/// The folder for the pins of `interface` in this network namespace: `/sys/fs/bpf/rollcall/<namespace>-<interface index>`.
///
/// # Errors
/// The interface is not there, or the kernel does not say.
pub fn pins_of(interface: &str) -> Result<PathBuf, Error> {
    Ok(Path::new(PINS).join(Interface::inspect(interface)?.key()))
}

/// Detaches and removes what an agent left behind that was killed. Nothing there: nothing to do.
///
/// # Errors
/// A pin could not be removed; those before it are gone.
pub fn cleanup(pins: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(file_error("list", pins, source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|source| file_error("list", pins, source))?.path());
    }
    // The XDP program last but the maps: its companion alone does nothing, but without it frames arrive that TCP drops.
    paths.sort_by_key(|path| match path.file_name().and_then(|name| name.to_str()) {
        Some(XDP_PIN) => 0,
        Some(TC_PIN) => 1,
        _ => 2,
    });
    let programs: Vec<u32> = paths.iter().filter_map(|path| program_of(path)).collect();
    for path in paths {
        remove_file(&path)?;
    }
    wait_until_gone(&programs);
    match fs::remove_dir(pins) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(file_error("remove", pins, source)),
    }
    // The common parent goes with the last of them; another interface may still use it.
    if let Some(parent) = pins.parent().filter(|parent| parent.ends_with("rollcall")) {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// The kernel's number of the program whose attachment is pinned at `path`, if one is.
fn program_of(path: &Path) -> Option<u32> {
    let is_link = path.ends_with(XDP_PIN) || path.ends_with(TC_PIN);
    let link = PinnedLink::from_pin(path).ok().filter(|_| is_link)?;
    FdLink::from(link).info().ok().map(|info| info.program_id())
}

/// A program is detached and unloaded a grace period of the kernel after its pin went. An operator who is told that it is
/// gone should find it so; nothing depends on it, so a kernel that takes longer than two seconds is not waited for.
fn wait_until_gone(programs: &[u32]) {
    for _ in 0..400 {
        let mut loaded = loaded_programs().flatten();
        if !loaded.any(|program| programs.contains(&program.id())) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

impl Dataplane {
    /// Attaches the program to `interface`, or replaces the one that an agent before this attached there: atomically, with
    /// the owner tables, lease and counters that it had. Where there was none, this node holds nothing and has no lease.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn attach(plan: &Plan, interface: &str, xdp: XdpChoice, pins: &Path) -> Result<Self, Error> {
        Self::attach_beneath(plan, interface, interface, xdp, pins)
    }

    /// As [`Dataplane::attach`], but to `beneath`, by which the frames for `interface` come: the NIC under a VLAN interface. The
    /// pins are those of `beneath`; frames that pass get the MAC address of `interface`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn attach_beneath(
        plan: &Plan,
        interface: &str,
        beneath: &str,
        xdp: XdpChoice,
        pins: &Path,
    ) -> Result<Self, Error> {
        let (interface, beneath) = (Interface::inspect(interface)?, Interface::inspect(beneath)?);
        make_folder(pins)?;
        let place = Place { interface: &interface, beneath: &beneath, choice: xdp, pins };
        let old = OldLink::open(&place)?;
        let is_new = old.is_none();
        let attached = attach(plan, &place, old);
        if attached.is_err() && is_new {
            // The first error says more than one on removing what it left.
            let _ = cleanup(pins);
        }
        attached
    }

    /// The only writers of the owner tables and the lease, to be moved to the thread that decides on them.
    ///
    /// # Panics
    /// When called a second time.
    pub fn writers(&mut self) -> (OwnerTables, Lease) {
        let writers = self.writers.take();
        let Writers { tables, lease } = writers.expect("invariant: the writers are handed out once");
        (tables, lease)
    }

    /// The verdicts' counters; a cheap handle.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Notes how the interface lets frames for the cluster MAC in, for the status.
    pub fn let_in_by(&mut self, filter: String) {
        self.status.filter = filter;
    }

    /// Whose hearing tests arrived; a cheap handle.
    pub fn hearing(&self) -> Hearing {
        self.hearing.clone()
    }

    /// What the program goes by; a cheap handle.
    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// The door to captures; a cheap handle. Until [`Dataplane::detach`].
    pub fn captures(&self) -> Captures {
        self.captures.clone()
    }

    /// How the program is attached.
    pub fn status(&self) -> InterfaceStatus {
        self.status.clone()
    }

    /// Detaches the program and removes every pin: the interface is as it was before.
    ///
    /// # Errors
    /// A pin could not be removed; [`cleanup`] may try again.
    pub fn detach(self) -> Result<(), Error> {
        self.captures.close();
        cleanup(&self.pins)
    }
}

/// Swaps in a program that accepts new TCP connections after the lease: proves in tests that the lease is what prevents two
/// owners. The tables and the agent stay as they are.
///
/// # Errors
/// See [`Error`]; also if nothing is attached.
#[cfg(feature = "faults")]
pub fn replace_without_lease_check(plan: &Plan, interface: &str, pins: &Path) -> Result<(), Error> {
    let mut plan = plan.clone();
    plan.config.ignore_lease = 1;
    let interface = Interface::inspect(interface)?;
    let place = Place { interface: &interface, beneath: &interface, choice: XdpChoice::Auto, pins };
    let Some(old) = OldLink::open(&place)? else {
        return Err(Error::NoLink(interface.name));
    };
    let mut ebpf = load(&plan, interface.mac, pins)?;
    old.replace(&mut ebpf)
}

const XDP_PIN: &str = "xdp";
const TC_PIN: &str = "tc";

/// The maps whose state outlives a program: name, size of an element, number of elements.
const STATE_MAPS: [(&str, usize, usize); 7] = [
    ("TABLES", size_of::<BucketTable>(), GENERATIONS * TABLES),
    ("ACTIVE", size_of::<u32>(), 1),
    ("LEASE", size_of::<table::Lease>(), 1),
    ("COUNTERS", size_of::<Counter>(), RULES * COUNTERS_A_RULE),
    ("SEEN", size_of::<SeenTable>(), TABLES),
    ("HEARD", size_of::<u64>(), NODES),
    ("CAPTURE", 0, CAPTURE_BYTES),
];

/// The kernel's number for the file system that `path` is in, or will be once it is made. Folders may come and go meanwhile.
fn file_system_of(path: &Path) -> io::Result<u32> {
    let mut found = path.ancestors().map(rustix::fs::statfs);
    let found = found.find(|found| !matches!(found, Err(Errno::NOENT))).unwrap_or(Err(Errno::NOENT));
    // The field's type differs between architectures; the number has 32 bits.
    Ok(found?.f_type as u32)
}

/// Makes the folder for the pins, if it can be one.
fn make_folder(pins: &Path) -> Result<(), Error> {
    const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
    if file_system_of(pins).map_err(|source| file_error("look at", pins, source))? != BPF_FS_MAGIC {
        return Err(Error::NoBpffs(pins.to_owned()));
    }
    // Another interface's agent may just be removing the common parent, as the last one there.
    fs::create_dir_all(pins)
        .or_else(|_| fs::create_dir_all(pins))
        .map_err(|source| file_error("make", pins, source))
}

/// Where a program is to be attached.
struct Place<'a> {
    /// Whose frames it judges.
    interface: &'a Interface,
    /// Where they come in.
    beneath: &'a Interface,
    choice: XdpChoice,
    pins: &'a Path,
}

fn attach(plan: &Plan, place: &Place<'_>, old: Option<OldLink>) -> Result<Dataplane, Error> {
    let mut ebpf = load(plan, place.interface.mac, place.pins)?;
    let mut writers = Writers {
        tables: OwnerTables::new(take(&mut ebpf, "TABLES")?, take(&mut ebpf, "ACTIVE")?)
            .map_err(|source| refused("use the owner tables", source))?,
        lease: load_lease(place.pins)?,
    };
    // The tables of an agent before this may mean something else under this plan: they accept nothing more.
    writers.lease.end().map_err(|source| refused("end the lease", source))?;
    let attached = put_in(plan, place, old, ebpf)?;
    Ok(Dataplane { writers: Some(writers), ..attached })
}

/// Attaches the loaded program, in the place of the old one if there is one. The writers are another matter.
fn put_in(plan: &Plan, place: &Place<'_>, old: Option<OldLink>, mut ebpf: Ebpf) -> Result<Dataplane, Error> {
    let Place { interface, beneath, choice, pins } = *place;
    let renumbered = old.as_ref().is_some_and(|old| !old.has_port_lists(&plan.port_lists));
    let (native, why) = match old {
        Some(old) => {
            let native = old.native;
            attach_companion(&mut ebpf, beneath, native, pins)?;
            old.replace(&mut ebpf)?;
            (native, generic_reason(beneath, native))
        }
        None => attach_first(&mut ebpf, beneath, choice, pins)?,
    };
    let mut counters = PerCpuArray::<MapData, Counter>::try_from(take_map(&mut ebpf, "COUNTERS"))
        .map_err(|source| refused("use the counters", source))?;
    if renumbered {
        maps::forget_rules(&mut counters).map_err(|source| refused("reset the counters", source))?;
    }
    let in_force = InForce::open(pins).map_err(|source| refused("read the owner tables", source))?;
    let hearing = Hearing::new(take(&mut ebpf, "HEARD")?);
    let attached = Attached { plan: plan.clone(), interface: interface.clone(), pins: pins.to_owned(), ebpf };
    Ok(Dataplane {
        pins: pins.to_owned(),
        status: InterfaceStatus {
            name: interface.name.clone(),
            xdp: if native { "native" } else { "generic" }.to_owned(),
            why,
            xdp_interface: (beneath.index != interface.index).then(|| beneath.name.clone()),
            tc_companion: needs_companion(beneath, native),
            cluster_mac: format_mac(plan.config.cluster_mac),
            // Whoever lets frames for it in says how.
            filter: String::new(),
            pins: pins.display().to_string(),
        },
        hearing,
        counters: Counters::new(counters, &plan.port_lists),
        in_force,
        captures: Captures::new(attached),
        writers: None,
    })
}

/// Loads the programs with the plan's facts and the pinned maps, which are made where they are missing.
fn load(plan: &Plan, own_mac: [u8; 6], pins: &Path) -> Result<Ebpf, Error> {
    drop_foreign_maps(pins)?;
    load_with(plan, own_mac, Some(pins))
}

/// As [`load`]; without `pins` all maps are new, and go with the programs.
fn load_with(plan: &Plan, own_mac: [u8; 6], pins: Option<&Path>) -> Result<Ebpf, Error> {
    let config = table::Config { own_mac, snt_isn_offset: snt_isn_offset()?, ..plan.config };
    let mut loader = EbpfLoader::new();
    loader.override_global("CONFIG", &config, true);
    loader.map_max_entries("PORT_RULES", plan.port_lists.len().max(1) as u32);
    name_pins(&mut loader, pins);
    let loaded = loader.load(OBJECT);
    let mut ebpf = loaded.map_err(|source| refused("create the BPF maps", source))?;
    let rules = ebpf.map_mut("PORT_RULES").expect("invariant: lb-ebpf has this map");
    write_port_lists(rules, &plan.port_lists).map_err(|source| refused("write the port rules", source))?;
    let xdp = xdp_program(&mut ebpf).load();
    xdp.map_err(|source| refused("load the XDP program", source))?;
    Ok(ebpf)
}

/// Loads the program by which the lease is renewed, apart from the others: it is held as long as it may be run, and they are not.
fn load_lease(pins: &Path) -> Result<Lease, Error> {
    load_lease_with(Some(pins))
}

fn load_lease_with(pins: Option<&Path>) -> Result<Lease, Error> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("PORT_RULES", 1);
    name_pins(&mut loader, pins);
    let mut ebpf = loader.load(OBJECT).map_err(|source| refused("create the BPF maps", source))?;
    let renew = Lease::program(&mut ebpf).load();
    renew.map_err(|source| refused("load the program that renews the lease", source))?;
    Ok(Lease::new(ebpf))
}

fn name_pins(loader: &mut EbpfLoader<'_>, pins: Option<&Path>) {
    let Some(pins) = pins else { return };
    for (name, _, _) in STATE_MAPS {
        loader.map_pin_path(name, pins.join(name));
    }
}

fn write_port_lists(map: &mut Map, lists: &[PortRules]) -> Result<(), MapError> {
    let mut map: Array<_, PortRules> = map.try_into()?;
    lists.iter().zip(0..).try_for_each(|(list, number)| map.set(number, list, 0))
}

/// Where this kernel keeps the sequence number of a SYN-ACK.
fn snt_isn_offset() -> Result<u16, Error> {
    const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
    let btf = fs::read(VMLINUX).map_err(|source| file_error("read", VMLINUX, source))?;
    let offset = btf::field_offset(&btf, "tcp_request_sock", "snt_isn")?;
    u16::try_from(offset).map_err(|_| Error::Btf(btf::Error::Damaged))
}

/// Removes pinned maps that another version of the program laid out otherwise: it would read nonsense from them.
fn drop_foreign_maps(pins: &Path) -> Result<(), Error> {
    foreign_maps(pins).try_for_each(|path| remove_file(&path))
}

fn foreign_maps(pins: &Path) -> impl Iterator<Item = PathBuf> {
    STATE_MAPS.into_iter().filter_map(|(name, value_size, max_entries)| {
        let path = pins.join(name);
        let map = MapInfo::from_pin(&path).ok()?;
        let fits = map.value_size() as usize == value_size && map.max_entries() as usize == max_entries;
        (!fits).then_some(path)
    })
}

/// The program that is attached, and what it takes to put another in its place for a while.
pub(super) struct Attached {
    plan: Plan,
    interface: Interface,
    pins: PathBuf,
    ebpf: Ebpf,
}

impl Attached {
    /// Puts a program in its place, between two packets, that samples one of `every` packets with one of `reasons` (a bit each),
    /// and gives the ring buffer that the samples come by, empty. Calls `just_before` it does so.
    pub(super) fn sample(
        &self,
        reasons: u64,
        every: u32,
        just_before: impl FnOnce(),
    ) -> Result<RingBuf<MapData>, Error> {
        let mut plan = self.plan.clone();
        (plan.config.capture_reasons, plan.config.capture_every) = (reasons, every);
        let mut ebpf = load(&plan, self.interface.mac, &self.pins)?;
        let ring = RingBuf::try_from(take_map(&mut ebpf, "CAPTURE"));
        let mut ring = ring.map_err(|source| refused("read the ring buffer", source))?;
        // Those that an agent left that was killed.
        while ring.next().is_some() {}
        let link = self.link()?;
        just_before();
        link.replace(&mut ebpf)?;
        Ok(ring)
    }

    /// Puts the usual program back. It was never unloaded, so that nothing new can be wrong with it.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let link = self.link()?;
        link.replace(&mut self.ebpf)
    }

    fn link(&self) -> Result<OldLink, Error> {
        let link = PinnedLink::from_pin(self.pins.join(XDP_PIN));
        let link = link.map_err(|source| refused("open the pinned link", source))?;
        Ok(OldLink { link: link.into(), native: false })
    }
}

/// The attachment that an agent before this one made, still alive.
struct OldLink {
    link: FdLink,
    native: bool,
}

impl OldLink {
    /// Opens it. If it is dead (its interface is gone) or of another mode than is wanted now, everything that was pinned
    /// is removed.
    fn open(place: &Place<'_>) -> Result<Option<Self>, Error> {
        let found = Self::find(place);
        if found.is_none() {
            cleanup(place.pins)?;
            make_folder(place.pins)?;
        }
        Ok(found)
    }

    /// The one that lives, in a mode that is wanted now.
    fn find(place: &Place<'_>) -> Option<Self> {
        let link = FdLink::from(PinnedLink::from_pin(place.pins.join(XDP_PIN)).ok()?);
        let program = link.info().map(|info| info.program_id()).unwrap_or_default();
        let attached = place.beneath.xdp.filter(|xdp| xdp.program == program)?;
        suits(place.choice, attached.native).then_some(Self { link, native: attached.native })
    }

    /// Whether its program numbers the port rules as these lists do. False also where that cannot be told.
    fn has_port_lists(&self, lists: &[PortRules]) -> bool {
        let program = self.link.info().map(|info| info.program_id()).unwrap_or_default();
        let program = loaded_programs().flatten().find(|loaded| loaded.id() == program);
        let maps = program.and_then(|program| program.map_ids().ok().flatten()).unwrap_or_default();
        let named =
            |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some("PORT_RULES"));
        let Some(map) = maps.into_iter().find(named).and_then(|id| MapData::from_id(id).ok()) else {
            return false;
        };
        let Ok(map) = Array::<_, PortRules>::try_from(Map::Array(map)) else { return false };
        let same = |(list, number): (&PortRules, u32)| map.get(&number, 0).is_ok_and(|old| old == *list);
        map.len() as usize == lists.len().max(1) && lists.iter().zip(0..).all(same)
    }

    /// Puts the loaded program in the place of the one that is attached, between two packets.
    fn replace(self, ebpf: &mut Ebpf) -> Result<(), Error> {
        let link = XdpLink::try_from(self.link).map_err(|source| refused("open the pinned link", source))?;
        let program = xdp_program(ebpf);
        let failed = |source| refused("replace the XDP program", source);
        let id = program.attach_to_link(link).map_err(failed)?;
        // The pin alone keeps it: what is unpinned is to be detached, even while `ebpf` lives.
        program.take_link(id).map(drop).map_err(failed)
    }
}

const fn suits(choice: XdpChoice, native: bool) -> bool {
    match choice {
        XdpChoice::Auto => true,
        XdpChoice::Native => native,
        XdpChoice::Generic => !native,
    }
}

/// Attaches where nothing of ours was attached. Gives whether natively, and if not, why.
fn attach_first(
    ebpf: &mut Ebpf,
    interface: &Interface,
    choice: XdpChoice,
    pins: &Path,
) -> Result<(bool, Option<String>), Error> {
    if let Some(why) = generic_reason(interface, false).filter(|_| choice == XdpChoice::Auto) {
        attach_fresh(ebpf, interface, XdpMode::Skb, pins)?;
        return Ok((false, Some(why)));
    }
    if choice == XdpChoice::Generic {
        attach_fresh(ebpf, interface, XdpMode::Skb, pins)?;
        return Ok((false, Some("chosen in the configuration".to_owned())));
    }
    attach_companion(ebpf, interface, true, pins)?;
    match attach_fresh(ebpf, interface, XdpMode::Driver, pins) {
        Ok(()) => Ok((true, None)),
        Err(Error::Kernel { source, .. }) if choice == XdpChoice::Auto => {
            attach_fresh(ebpf, interface, XdpMode::Skb, pins)?;
            Ok((false, Some(format!("the driver refuses: {}", chain(&*source)))))
        }
        Err(error) => Err(error),
    }
}

/// Why generic mode is the better choice on an interface whose driver has a native one.
fn generic_reason(interface: &Interface, native: bool) -> Option<String> {
    let why =
        "veth: in native mode ARP answers are lost unless the peer has an XDP program too, and TCP is slower";
    (interface.is_veth() && !native).then(|| why.to_owned())
}

fn attach_fresh(ebpf: &mut Ebpf, interface: &Interface, mode: XdpMode, pins: &Path) -> Result<(), Error> {
    let program = xdp_program(ebpf);
    let id = program
        .attach_to_if_index(interface.index, mode)
        .map_err(|source| attach_error(source, interface))?;
    let own_id = program.info().map(|info| info.id()).unwrap_or_default();
    // aya falls back to netlink without a word; such an attachment can be neither pinned nor replaced atomically.
    if !loaded_links().flatten().any(|link| link.program_id() == own_id) {
        let _ = program.detach(id);
        return Err(Error::NoLink(interface.name.clone()));
    }
    let link = program.take_link(id).map_err(|source| refused("attach the XDP program", source))?;
    let link = FdLink::try_from(link).map_err(|_| Error::NoLink(interface.name.clone()))?;
    let pinned = link.pin(pins.join(XDP_PIN));
    pinned.map(drop).map_err(|source| refused("pin the attachment", source))
}

fn needs_companion(interface: &Interface, native: bool) -> bool {
    interface.is_veth() && native
}

/// Attaches the tc program where the XDP program needs it, in the place of an older one if there is one.
fn attach_companion(ebpf: &mut Ebpf, interface: &Interface, native: bool, pins: &Path) -> Result<(), Error> {
    if !needs_companion(interface, native) {
        return Ok(());
    }
    let failed = |source: Box<dyn StdError + Send + Sync>| Error::Kernel {
        what: "attach the tc companion that veth needs in native mode (Linux 6.6 or later; or use generic mode)",
        source,
    };
    let pin = pins.join(TC_PIN);
    let program = tc_program(ebpf);
    program.load().map_err(|source| failed(source.into()))?;
    if let Ok(old) = PinnedLink::from_pin(&pin) {
        let old = SchedClassifierLink::try_from(FdLink::from(old)).map_err(|source| failed(source.into()))?;
        let replaced = program.attach_to_link(old);
        return replaced.map(drop).map_err(|source| failed(source.into()));
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, first)
        .map_err(|source| failed(source.into()))?;
    let link = program.take_link(id).map_err(|source| failed(source.into()))?;
    let link = FdLink::try_from(link).map_err(|source| failed(source.into()))?;
    link.pin(&pin).map(drop).map_err(|source| failed(source.into()))
}

fn xdp_program(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf.program_mut("rollcall").and_then(|program| program.try_into().ok());
    program.expect("invariant: lb-ebpf has this XDP program")
}

fn tc_program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("companion").and_then(|program| program.try_into().ok());
    program.expect("invariant: lb-ebpf has this tc program")
}

fn take<V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, Error> {
    Array::try_from(take_map(ebpf, name)).map_err(|source| refused("use the BPF maps", source))
}

fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Map {
    ebpf.take_map(name).expect("invariant: lb-ebpf has this map, and it is taken once")
}

fn attach_error(error: ProgramError, interface: &Interface) -> Error {
    const EEXIST: i32 = 17;
    const EBUSY: i32 = 16;
    match errno(&error) {
        // In the same mode, in the other mode.
        Some(EBUSY | EEXIST) => {
            Error::Occupied { interface: interface.name.clone(), program: other_program(&interface.name) }
        }
        _ => refused("attach the XDP program", error),
    }
}

/// Name and number of the XDP program that an interface has.
fn other_program(interface: &str) -> String {
    let attached = Interface::inspect(interface).ok().and_then(|found| found.xdp);
    let Some(id) = attached.map(|xdp| xdp.program) else {
        return "of another agent or tool".to_owned();
    };
    let info = loaded_programs().flatten().find(|program| program.id() == id);
    let name = info.as_ref().and_then(|info| info.name_as_str()).unwrap_or("without name");
    format!("`{name}` (number {id})")
}

fn refused(what: &'static str, source: impl StdError + Send + Sync + 'static) -> Error {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    let source: Box<dyn StdError + Send + Sync> = Box::new(source);
    match errno(&*source) {
        Some(EPERM) => Error::NotPermitted { what, source },
        // The verifier says EACCES of a program; elsewhere it is a missing privilege.
        Some(EACCES) if !what.starts_with("load") => Error::NotPermitted { what, source },
        _ => Error::Kernel { what, source },
    }
}

fn file_error(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
    Error::File { what, path: path.into(), source }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file_error("remove", path, source)),
    }
}

/// The system call's error number, wherever in the chain of causes it is.
fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn another_agent_that_removes_the_common_parent_meanwhile_is_no_error() {
        let parent = std::env::temp_dir().join(format!("rollcall-pins-{}", std::process::id()));
        let (stop, pins) = (AtomicBool::new(false), parent.join("1-2"));
        let outcomes: Vec<io::Result<u32>> = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    fs::create_dir(&parent).unwrap();
                    fs::remove_dir(&parent).unwrap();
                }
            });
            let outcomes = (0..50_000).map(|_| file_system_of(&pins)).collect();
            stop.store(true, Ordering::Relaxed);
            outcomes
        });
        let expected = file_system_of(&std::env::temp_dir()).unwrap();
        for outcome in outcomes {
            assert_eq!(outcome.unwrap(), expected);
        }
    }
}
