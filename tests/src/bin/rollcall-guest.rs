//! What `cargo xtask old-kernel` boots an older kernel with: the only process of a small virtual machine. It shows the BPF
//! object to that kernel step by step, reports over the second serial port (the lines are described in xtask's
//! old_kernel/report.rs, which judges them), and switches the machine off. Nobody else runs it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Error, Result, ensure};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;
use lb_user::dataplane::OBJECT;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot, uname};

const REPORT: &str = "/dev/ttyS1";
const INTERFACE: &str = "veth0";
const XDP_PASS: u32 = 2;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("error: this is the first process of a virtual machine; hint: cargo xtask old-kernel");
        return ExitCode::FAILURE;
    }
    if let Err(error) = examine() {
        eprintln!("error: {error:#}");
    }
    // Without its first process the kernel would panic; that too ends the machine, but later.
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("error: could not switch the machine off: {error}");
    }
    ExitCode::FAILURE
}

/// Every step is tried, also after one that failed: one run shows all that this kernel refuses.
fn examine() -> Result<()> {
    let mut report = Report::open()?;
    report.step("mount", mount_file_systems())?;
    report.step("veth", make_veth())?;
    let mut ebpf = match EbpfLoader::new().load(OBJECT) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            report.step("maps", Err(error.into()))?;
            return report.end();
        }
    };
    report.step("maps", Ok(format!("{} maps", ebpf.maps().count())))?;
    report.step("load rollcall", load_xdp(&mut ebpf, "rollcall"))?;
    report.step("load for any configuration", load_for_any_configuration())?;
    report.step("load renew", load_xdp(&mut ebpf, "renew"))?;
    report.step("load companion", load_companion(&mut ebpf))?;
    report.step("attach natively", attach(&mut ebpf, XdpMode::Driver, "xdp"))?;
    report.step("attach generically", attach(&mut ebpf, XdpMode::Skb, "xdpgeneric"))?;
    report.step("run on a SYN", test_run(&mut ebpf))?;
    report.end()
}

fn mount_file_systems() -> Result<String> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("bpf", "/sys/fs/bpf")] {
        mount(kind, target, kind, MountFlags::empty(), None)
            .with_context(|| format!("could not mount {target}"))?;
    }
    Ok("proc, sysfs, bpf".to_owned())
}

fn make_veth() -> Result<String> {
    let module = File::open("/veth.ko").context("could not open /veth.ko")?;
    finit_module(&module, c"", 0).context("could not load /veth.ko")?;
    ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", "veth1"])?;
    ip(&["link", "set", "veth1", "up"])?;
    ip(&["link", "set", INTERFACE, "up"])?;
    Ok("module loaded, pair made".to_owned())
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("/bin/ip").args(args).output().context("could not start /bin/ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), said.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn load_xdp(ebpf: &mut Ebpf, name: &str) -> Result<String> {
    let program = xdp(ebpf, name)?;
    program.load()?;
    Ok(verified(program.info()?.verified_instruction_count()))
}

/// Loads the program as one whose configuration the verifier cannot know.
///
/// From a frozen `.rodata` the verifier reads constants, and passes over all that they rule out: nine tenths of the program
/// under the empty configuration of the object. As `.data` (of the same name in ELF and BTF) it stays unknown, so that every
/// branch has to be safe whatever an operator writes.
fn load_for_any_configuration() -> Result<String> {
    const READ_ONLY: &[u8] = b"\0.rodata\0";
    const UNKNOWN: &[u8] = b"\0.data\0\0\0";
    let mut object = OBJECT.to_vec();
    let names: Vec<usize> =
        (0..object.len()).filter(|start| object[*start..].starts_with(READ_ONLY)).collect();
    ensure!(!names.is_empty(), "the object has no section .rodata");
    for start in names {
        object[start..start + UNKNOWN.len()].copy_from_slice(UNKNOWN);
    }
    let mut ebpf = EbpfLoader::new().load(&object)?;
    load_xdp(&mut ebpf, "rollcall")
}

fn load_companion(ebpf: &mut Ebpf) -> Result<String> {
    let program = ebpf.program_mut("companion").context("no program `companion`")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    Ok(verified(program.info()?.verified_instruction_count()))
}

fn verified(instructions: Option<u32>) -> String {
    instructions.map(|count| format!("{count} instructions verified")).unwrap_or_default()
}

/// Attaches as the agent does, by a link that is pinned, and detaches again.
fn attach(ebpf: &mut Ebpf, mode: XdpMode, shown_as: &str) -> Result<String> {
    let program = xdp(ebpf, "rollcall")?;
    let id = program.attach(INTERFACE, mode)?;
    // aya falls back to netlink without a word; such an attachment can be neither pinned nor replaced atomically.
    let link = FdLink::try_from(program.take_link(id)?).context("attached by netlink, not by a BPF link")?;
    let pin = link.pin("/sys/fs/bpf/xdp").context("could not pin the link")?;
    let interface = ip(&["link", "show", INTERFACE]);
    let link = pin.unpin().context("could not remove the link's pin")?;
    drop(link);
    let interface = interface?;
    ensure!(interface.split_whitespace().any(|word| word == shown_as), "no `{shown_as}` in: {interface}");
    Ok("by a BPF link, pinned".to_owned())
}

/// A SYN that is for nobody in an empty configuration has to pass.
fn test_run(ebpf: &mut Ebpf) -> Result<String> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let builder = builder.ipv4([203, 0, 113, 10], [192, 168, 50, 8], 64).tcp(40_000, 443, 1, 64_000).syn();
    let mut frame = Vec::with_capacity(builder.size(0));
    builder.write(&mut frame, &[]).context("could not build the frame")?;
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
    let result = xdp(ebpf, "rollcall")?.test_run(options)?.return_value;
    ensure!(result == XDP_PASS, "it returned {result}, not {XDP_PASS} (XDP_PASS)");
    Ok("XDP_PASS".to_owned())
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program `{name}`"))?;
    Ok(program.try_into()?)
}

/// The serial port, and how many steps it has heard of.
struct Report {
    port: File,
    steps: u32,
}

impl Report {
    fn open() -> Result<Self> {
        let port = File::options().write(true).open(REPORT);
        let mut report = Self { port: port.with_context(|| format!("could not open {REPORT}"))?, steps: 0 };
        report.line(&format!("kernel\t{}", uname().release().to_string_lossy()))?;
        Ok(report)
    }

    fn step(&mut self, name: &str, result: Result<String>) -> Result<()> {
        self.steps += 1;
        let error = match result {
            Ok(detail) => return self.line(&format!("step\t{name}\tok\t{detail}")),
            Err(error) => error,
        };
        let (what, log) = explain(&error);
        self.line(&format!("step\t{name}\tfailed\t{}", what.replace('\n', " ")))?;
        for line in log {
            self.line(&format!("log\t{line}"))?;
        }
        Ok(())
    }

    /// Closing the port, which this does, waits until all is sent.
    fn end(mut self) -> Result<()> {
        let steps = self.steps;
        self.line(&format!("end\t{steps}"))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.port, "{text}").with_context(|| format!("could not write to {REPORT}"))
    }
}

/// The error in one line, and apart from it the end of the verifier's log.
fn explain(error: &Error) -> (String, Vec<String>) {
    const SHOWN: usize = 40;
    let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() else {
        return (format!("{error:#}"), Vec::new());
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| (*line).to_owned());
    (format!("the kernel refuses the program: {io_error}"), shown.collect())
}
