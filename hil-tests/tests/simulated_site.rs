//! The simulated site as a program. Needs: nothing but this workspace.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

struct Program {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_simulated-site"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let (commands, answers) = (child.stdin.take(), child.stdout.take().expect("its output"));
        Self { child, commands, answers: BufReader::new(answers) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("its input");
        writeln!(commands, "{command}").expect("it reads");
        self.line()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.commands.take());
        self.child.wait().expect("it ends");
    }
}

fn read_two(port: u64) -> std::io::Result<[u8; 13]> {
    let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).expect("a port")))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2])?;
    let mut reply = [0; 13];
    let count = stream.read(&mut reply)?;
    if count < 9 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(reply) }
}

#[test]
fn it_says_where_it_listens_and_takes_faults_and_plugs_as_commands() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("rs485");
    let line = format!("{},9600,E,1,1:pressure-transmitter,2:ultrasonic-flow-meter", path.display());
    let mut site = Program::start(&["--line", &line, "--tcp", "0,1:bench-1000", "--seed", "7"]);
    let ready: serde_json::Value = serde_json::from_str(&site.line()).expect("JSON");
    assert_eq!(ready["lines"][0].as_str(), path.to_str());
    let port = ready["ports"][0].as_u64().expect("a port");
    assert!(path.exists());

    assert_eq!(read_two(port).expect("an answer")[..9], [0, 1, 0, 0, 0, 7, 1, 3, 4]);
    assert_eq!(site.ask("fault 1 1 exception 1"), "ok");
    assert_eq!(read_two(port).expect("an answer")[7..9], [0x83, 0x06]);
    assert_eq!(site.ask("clear"), "ok");
    assert_eq!(read_two(port).expect("an answer")[7..9], [3, 4]);
    let counts: serde_json::Value = serde_json::from_str(&site.ask("counts")).expect("JSON");
    assert_eq!((&counts[1]["requests"], &counts[1]["faults"]["1"]["exception"]), (&3.into(), &1.into()));

    assert_eq!(site.ask("longest 1 1 1 3"), "ok");
    assert_eq!(read_two(port).expect("an answer")[7..9], [0x83, 0x03]);
    assert_eq!([site.ask("longest 1 1 125 3"), site.ask("hole 1 1 1 1")], ["ok", "ok"]);
    assert_eq!(read_two(port).expect("an answer")[7..9], [0x83, 0x02]);
    assert_eq!([site.ask("dead 0 1 yes"), site.ask("dead 0 1 no"), site.ask("noise 0 0.0001")], ["ok", "ok", "ok"]);

    assert_eq!([site.ask("unplug 0"), site.ask("unplug 1")], ["ok", "ok"]);
    assert!(!path.exists() && read_two(port).is_err());
    assert_eq!([site.ask("plug 0"), site.ask("plug 1")], ["ok", "ok"]);
    assert!(path.exists() && read_two(port).is_ok());
    for wrong in ["fault 9 1 drop 1", "fault 1 1 fire 1", "fault 1 1 drop", "unplug 2", "noise 1 0.1", "dead 0 1 maybe"]
    {
        assert!(site.ask(wrong).starts_with("error: "), "{wrong}");
    }
}
