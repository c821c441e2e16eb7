//! Processes beside the engine: workers that are stopped, continued and killed.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program with no more of this process's environment than it needs to run.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("pids are positive");
        rustix::process::kill_process(pid, signal)
            .expect("our own child can be signalled until it is waited for");
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// The exit code, if it has ended; a signal has none and counts as -1.
    pub fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().expect("our own child can be asked").map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
