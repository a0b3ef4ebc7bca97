//! The XDP program, and the small tc program that goes with it on veth.
//!
//! A thin shell: what a frame is and what becomes of it is decided in lb-common, which the tests run on the host as well.
//! Here are the packet pointers (packet.rs), the maps (maps.rs) and the kernel's sockets (socket.rs). On the host this
//! compiles to a program that does nothing, so that clippy and rustfmt see all of it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "on the host nothing calls the programs"))]

mod maps;
mod packet;
mod socket;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_xdp_get_buff_len};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Ipv4, Tcp, parse};
use lb_common::table::{Bucket, BucketState, Config};
use lb_common::verdict::{Action, LocalSocket, World, decide, rewrite};

use crate::packet::XdpPacket;

/// Every frame that the cluster interface receives.
#[xdp(frags)]
pub(crate) fn rollcall(ctx: XdpContext) -> u32 {
    match judge(&ctx) {
        Ok(Action::Untouched | Action::Accept) => XDP_PASS,
        Ok(Action::Answer) => XDP_TX,
        Ok(Action::Drop) | Err(TooShort) => XDP_DROP,
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

/// Lets everything pass. The lab's switches have it: `XDP_TX` on a veth reaches only a peer that has a program too. And the
/// bench measures the other program against it.
#[xdp(frags)]
pub(crate) fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// A frame ended before bytes that its parsing had found.
struct TooShort;

#[inline(always)]
fn judge(ctx: &XdpContext) -> Result<Action, TooShort> {
    let mut packet = XdpPacket::new(ctx);
    let frame = parse(&packet);
    let world = Kernel { ctx };
    let verdict = decide(&frame, &world);
    // SAFETY: the helper takes the context that this program was called with.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    maps::count(verdict.reason, length);
    rewrite(verdict.action, &frame, maps::config(), &mut packet).ok_or(TooShort)?;
    Ok(verdict.action)
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
    fn rule_of(&self, port: u16) -> usize {
        maps::rule_of(port)
    }

    #[inline(always)]
    fn bucket_state(&self, table: u8, bucket: Bucket) -> BucketState {
        maps::bucket_state(table, bucket)
    }

    #[inline(always)]
    fn local(&self, ip: &Ipv4, tcp: &Tcp) -> LocalSocket {
        socket::local(self.ctx, ip, tcp)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and only reads a clock.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn lease_deadline(&self) -> u64 {
        maps::lease_deadline()
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
