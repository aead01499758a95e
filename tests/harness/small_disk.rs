//! A disk of a few megabytes, to fill up and to let fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

fn run(program: &str, arguments: &[&str]) {
    // Mounting takes root's rights.
    let as_root = rustix::process::geteuid().is_root();
    let mut command = if as_root {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    };
    let output = command
        .args(arguments)
        .output()
        .expect("the program is there");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A file that is mounted as a disk, as long as it lives.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
    _folder: TempDir,
}

impl SmallDisk {
    pub fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = folder.path().join("image");
        let file = std::fs::File::create(&image).expect("creates");
        file.set_len(bytes).expect("has a length");
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount).expect("creates");
        let text = |path: &Path| path.to_str().expect("is text").to_owned();
        run("mkfs.ext4", &["-q", "-m", "0", &text(&image)]);
        run("mount", &["-o", "loop", &text(&image), &text(&mount)]);
        let disk = Self {
            mount,
            _folder: folder,
        };
        run("chmod", &["777", &text(&disk.mount)]);
        disk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// Takes all the room but `left` bytes.
    pub fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.mount).expect("says");
        let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
        let ballast = std::fs::File::create(self.path("ballast")).expect("creates");
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .expect("takes the room");
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path("ballast")).expect("removes");
    }

    /// From here on every access that needs the disk fails.
    pub fn fail(&self) {
        // EXT4_IOC_SHUTDOWN, without writing the journal.
        let script = "import fcntl, os, struct, sys; \
                      fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run(
            "python3",
            &["-c", script, self.mount.to_str().expect("is text")],
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a broker that is just being killed may still hold files. The loop device goes with it.
        run("umount", &["-l", self.mount.to_str().expect("is text")]);
    }
}
