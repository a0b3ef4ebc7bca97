//! The XDP program, and the small tc program that goes with it on veth.
//!
//! A thin shell: what a frame is and what becomes of it is decided in lb-common, which the tests run on the host as well.
//! Here are the packet pointers (packet.rs), the maps (maps.rs) and the kernel's sockets (socket.rs). On the host this
//! compiles to a program that does nothing, so that clippy and rustfmt see all of it.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "on the host nothing calls the programs"))]

mod maps;
mod packet;
mod socket;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Ip, Packet as _, Tcp};
use lb_common::table::{Bucket, BucketState, Config, Renewal};
use lb_common::verdict::{Action, LocalSocket, Note, Verdict, World, judge, rewrite, sample};

use crate::packet::{XdpPacket, load};

/// Every frame that the cluster interface receives.
#[xdp(frags)]
#[inline(always)]
pub(crate) fn rollcall(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(&ctx);
    let verdict = decide(&ctx, &packet);
    let config = maps::config();
    match verdict.action(config) {
        Action::Drop => XDP_DROP,
        Action::Untouched => XDP_PASS,
        Action::Accept => rewrite(verdict, config, &mut packet).map_or(XDP_DROP, |()| XDP_PASS),
        Action::Answer => rewrite(verdict, config, &mut packet).map_or(XDP_DROP, |()| XDP_TX),
    }
}

/// Where the driver derives a frame's packet type before XDP (veth in native mode), XDP's own MAC address as destination
/// comes too late, and TCP would drop the frame. The next program decides what else becomes of it.
#[classifier]
pub(crate) fn companion(mut ctx: TcContext) -> i32 {
    const TCX_NEXT: i32 = -1;
    if packet::is_misread(&ctx) {
        packet::mark_as_host(&mut ctx);
    }
    TCX_NEXT
}

/// Renews or ends the lease: run by the agent (`BPF_PROG_TEST_RUN`), attached nowhere. Its frame is a `Renewal`. Clock and tick
/// are read where they are compared, so that the agent need not know how they relate.
#[xdp]
pub(crate) fn renew(ctx: XdpContext) -> u32 {
    let Some(bytes) = XdpPacket::new(&ctx).get(0) else {
        return XDP_DROP;
    };
    maps::renew(&Renewal::from_bytes(bytes).lease(now(), tick()));
    XDP_PASS
}

/// Judges a frame, and keeps the books of it.
#[inline(always)]
fn decide(ctx: &XdpContext, packet: &XdpPacket) -> Verdict {
    let verdict = judge(packet, &Kernel { ctx });
    let length = packet.len();
    maps::count(verdict, length);
    match verdict.note() {
        Note::None | Note::Arp(_) | Note::Neighbour(_) => {}
        Note::Seen { table, bucket } => maps::stamp_bucket(table, bucket, tick()),
        Note::Heard(node) => maps::stamp_node(node, now()),
    }
    let config = maps::config();
    // Read-only data: where it is 0, the verifier takes the rest out of the program.
    if config.capture_every == 0 { verdict } else { capture(packet, verdict, config, length) }
}

/// Samples a packet, and gives its verdict back as one of which the verifier knows nothing: it would go through all that follows
/// for each verdict that there is, half a million instructions (measured on 6.18).
#[cold]
#[inline(never)]
fn capture(packet: &XdpPacket, verdict: Verdict, config: &Config, length: u64) -> Verdict {
    // SAFETY: the helper takes nothing and has no effect.
    let random = unsafe { bpf_get_prandom_u32() };
    let verdict = load::forget(verdict, random);
    let wanted = config.capture_reasons >> (verdict.reason() as u8) & 1 != 0;
    if wanted && random.checked_rem(config.capture_every) == Some(0) {
        maps::sample(&sample(packet, verdict, config, length as u32, now()));
    }
    verdict
}

/// The monotonic clock, in nanoseconds.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing and only reads a clock.
    unsafe { bpf_ktime_get_ns() }
}

/// The kernel's ticks since its start. The verifier turns the call into a load: it costs nothing, where even the coarse clock
/// costs 18 ns.
#[inline(always)]
fn tick() -> u64 {
    // SAFETY: the helper takes nothing and only reads a counter.
    unsafe { bpf_jiffies64() }
}

/// What the kernel knows, as a verdict asks it.
struct Kernel<'a> {
    ctx: &'a XdpContext,
}

impl World for Kernel<'_> {
    #[inline(always)]
    fn config(&self) -> &Config {
        maps::config()
    }

    #[inline(always)]
    fn rule_of(&self, list: u8, port: u16) -> usize {
        maps::rule_of(list, port)
    }

    #[inline(always)]
    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState {
        maps::bucket_state(table, bucket)
    }

    #[inline(always)]
    fn local(&self, ip: &Ip, tcp: &Tcp) -> LocalSocket {
        socket::local(self.ctx, ip, tcp)
    }

    #[inline(always)]
    fn lease_lives(&self) -> bool {
        let (until_tick, until) = maps::lease_end();
        if maps::config().precise_lease != 0 { now() < until } else { tick() < until_tick }
    }
}

/// The kernel allows some of the helpers only to programs under a licence that fits its own.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
