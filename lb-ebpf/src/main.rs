//! The XDP program. On the host this is an empty program, so that clippy and rustfmt see the crate.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
    #[xdp]
    pub fn rollcall(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Lets everything through. On the switch's end of a veth: XDP_TX reaches only a peer that has a program too.
    #[xdp]
    pub fn pass(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
