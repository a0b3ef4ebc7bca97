//! What a child of the agent gives up before its first byte from the network.
//!
//! It starts with its own user id and without groups (`proxy::spawn`). [`hide`] is its first line: from then on it can gain
//! nothing by running another program, is closed to other processes' eyes, holds no capability, and has no descriptor but
//! the standard three. [`confine`] comes once it holds what it needs:
//!
//! - *Landlock*, as far as the kernel has it: nothing on the file system can be opened, no TCP port bound, none connected to
//!   but the servers', no abstract Unix socket reached, no process outside signalled.
//! - *seccomp*, an allow-list: memory, threads of its own, time, and sockets that exist, plus new TCP sockets over IPv4.
//!   Whatever is not listed answers EPERM: no other program, no file, no other socket (netlink, packet, raw, UDP, Unix), no
//!   look into another process. A call that a library makes out of curiosity thus fails as it would for lack of a right,
//!   and kills nobody.
//!
//! Landlock is best effort and `Confined` says what came of it; seccomp is required, and alone keeps all of this but the
//! ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySets;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use thiserror::Error;

use crate::sys;

/// The first line of a child: what can be given up before it knows what it is for.
pub fn hide() -> Result<(), SandboxError> {
    let step = |what| move |source: rustix::io::Errno| SandboxError::Refused { what, source: source.into() };
    sys::close_inherited().map_err(|source| SandboxError::Refused { what: "closing descriptors", source })?;
    rustix::thread::set_no_new_privs(true).map_err(step("no_new_privs"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("not dumpable"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(step("no core dumps"))?;
    raise_descriptors().map_err(step("the limit of descriptors"))?;
    give_up_groups()?;
    rustix::thread::clear_ambient_capability_set().map_err(step("no ambient capabilities"))?;
    let empty = rustix::thread::CapabilitySet::empty();
    let sets = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    rustix::thread::set_capabilities(None, sets).map_err(step("no capabilities"))?;
    refuse_root()
}

/// An agent that is not root, but has CAP_SETGID, may have left its groups.
fn give_up_groups() -> Result<(), SandboxError> {
    let refused =
        |source: rustix::io::Errno| SandboxError::Refused { what: "no groups", source: source.into() };
    if rustix::process::getgroups().map_err(refused)?.is_empty() {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[]).map_err(refused)
}

fn refuse_root() -> Result<(), SandboxError> {
    let root = rustix::process::geteuid().is_root() || rustix::process::getuid().is_root();
    if root { Err(SandboxError::Root) } else { Ok(()) }
}

/// A descriptor is a connection: takes as many as may be had.
fn raise_descriptors() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}

/// Locks the calling thread, and those it starts later, in for good. `ports`: the TCP ports that may be connected to.
pub fn confine(ports: &BTreeSet<u16>) -> Result<Confined, SandboxError> {
    let landlock = landlock(ports).map_err(SandboxError::Landlock)?;
    let no_clone3 = clone3_filter().map_err(SandboxError::Seccomp)?;
    let allowed = allowed_filter().map_err(SandboxError::Seccomp)?;
    seccompiler::apply_filter(&no_clone3).map_err(SandboxError::Seccomp)?;
    seccompiler::apply_filter(&allowed).map_err(SandboxError::Seccomp)?;
    Ok(Confined { landlock, ports: ports.clone() })
}

/// What the kernel could enforce.
#[derive(Debug)]
pub struct Confined {
    /// Landlock, which old kernels have in part or not at all.
    pub landlock: RulesetStatus,
    ports: BTreeSet<u16>,
}

impl Confined {
    /// Whether the kernel lets this process connect to a port. Where Landlock is in force in part only it may say no, too.
    pub fn allows(&self, port: u16) -> bool {
        self.landlock == RulesetStatus::NotEnforced || self.ports.contains(&port)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.landlock {
            RulesetStatus::FullyEnforced => "seccomp, Landlock",
            RulesetStatus::PartiallyEnforced => "seccomp, Landlock in part (Linux 6.12 has it all)",
            RulesetStatus::NotEnforced => "seccomp; no Landlock in this kernel",
        })
    }
}

fn landlock(ports: &BTreeSet<u16>) -> Result<RulesetStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for port in ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// glibc starts threads by clone3, whose flags no filter can see, and falls back to clone only on ENOSYS.
fn clone3_filter() -> Result<BpfProgram, seccompiler::Error> {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    let unknown = SeccompAction::Errno(errno(libc::ENOSYS));
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch()?)?.try_into()?)
}

fn allowed_filter() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: Rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([(libc::SYS_epoll_wait, Vec::new()), (libc::SYS_poll, Vec::new())]);
    let equal = |argument, constant| rule(&[(argument, SeccompCmpOp::Eq, constant)]);
    // Threads of this process, never another process.
    let thread = number(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![rule(&[(0, SeccompCmpOp::MaskedEq(thread), thread)])?]);
    rules.insert(libc::SYS_socket, vec![tcp_socket(0)?, tcp_socket(libc::IPPROTO_TCP)?]);
    // The runtime's own wake-up pair.
    rules.insert(libc::SYS_socketpair, vec![equal(0, number(libc::AF_UNIX))?]);
    // Rust makes sockets non-blocking by this.
    rules.insert(libc::SYS_ioctl, vec![equal(1, libc::FIONBIO)?]);
    // Names of threads, and of memory for who debugs.
    let names = [libc::PR_SET_NAME, libc::PR_SET_VMA];
    let names = names.iter().map(|name| equal(0, number(*name))).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_prctl, names);
    let refused = SeccompAction::Errno(errno(libc::EPERM));
    Ok(SeccompFilter::new(rules, refused, SeccompAction::Allow, arch()?)?.try_into()?)
}

/// TCP over IPv4: no netlink, packet, raw, UDP or Unix socket.
fn tcp_socket(protocol: i32) -> Result<SeccompRule, seccompiler::Error> {
    rule(&[
        (0, SeccompCmpOp::Eq, number(libc::AF_INET)),
        (1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), number(libc::SOCK_STREAM)),
        (2, SeccompCmpOp::Eq, number(protocol)),
    ])
}

/// System call to the ways in which it may be made; none: in any.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// All of `conditions`: argument, comparison, number. Arguments that are `int` to the kernel are compared as such.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::Error> {
    let condition = |(argument, operator, number): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *number)
    };
    let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

fn arch() -> Result<TargetArch, seccompiler::Error> {
    Ok(TargetArch::try_from(std::env::consts::ARCH)?)
}

fn number(constant: i32) -> u64 {
    u64::from(constant.cast_unsigned())
}

fn errno(constant: i32) -> u32 {
    constant.cast_unsigned()
}

/// Why a child does not lock itself in; it must not go on.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A step of [`hide`] failed.
    #[error("the kernel refused: {what}")]
    Refused {
        /// What was to be given up.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Started as root.
    #[error("must not run as root; `rollcall run` starts it as a user of its own")]
    Root,
    /// The kernel has Landlock and refused the rules.
    #[error("Landlock refused the rules")]
    Landlock(#[source] landlock::RulesetError),
    /// The kernel has no seccomp, or refused the filter.
    #[error("seccomp refused the filter; hint: the kernel needs CONFIG_SECCOMP_FILTER")]
    Seccomp(#[source] seccompiler::Error),
}

/// The bits of a socket's type that are not flags.
const SOCKET_TYPE: u64 = 0xf;

/// What tokio, rustls, aws-lc and glibc need once everything is open, on x86_64 and aarch64.
const ALLOWED: &[i64] = &[
    // Bytes in and out of what is open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_fstat,
    // Sockets.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads, signals, the end.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_getrandom,
];
