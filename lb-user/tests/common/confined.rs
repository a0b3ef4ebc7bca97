//! What a child of the agent is and has, whatever it is for.

use std::path::Path;

/// The values of a field of /proc/PID/status.
pub(crate) fn proc_status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The process is this user, locked in, and has nothing of the agent's but sockets.
pub(crate) fn assert_confined(pid: u32, user: &str) {
    let ids = [user; 4].join(" ");
    for (field, wanted) in [
        ("Uid", ids.as_str()),
        ("Gid", &ids),
        ("Groups", ""),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(proc_status(pid, field), wanted, "{field}");
    }
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        // A connection may have been closed since the folder was listed.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = target.to_str().unwrap().to_owned();
        if number > 2 && !["socket:", "anon_inode:"].iter().any(|kind| target.starts_with(kind)) {
            foreign.push(target);
        }
    }
    assert_eq!(foreign, Vec::<String>::new());
}
