//! Devices, /proc, the standard streams.

use super::*;

#[test]
fn devices_behave() {
    let t = task();
    assert_eq!(stat_of(t, "/dev").map(|stat| stat.nlink), Ok(4));
    assert_eq!(list(t, "/dev")[..4], [".", "..", "console", "core"]);
    assert!(list(t, "/").contains(&"..".into()));
    let fd = open_at(t, "/dev/zero", RW).expect("a device");
    assert_eq!(get(t, fd, 5).as_deref(), Ok(&[0; 5][..]));
    let fd = open_at(t, "/dev/null", RW).expect("a device");
    assert_eq!(get(t, fd, 5).as_deref(), Ok(&[][..]));
    assert_eq!(put(t, fd, &[1; 100]), Ok(100));
    assert_eq!(io::lseek(t, fd, 77, linux::SEEK_SET), Ok(0));
    let stat = stat_of(t, "/dev/null").expect("it is there");
    assert_eq!((stat.mode, stat.rdev), (linux::S_IFCHR | 0o666, 0x103));
    let fd = open_at(t, "/dev/full", RW).expect("a device");
    assert_eq!(put(t, fd, b"x"), Err(Errno::ENOSPC));
    let fd = open_at(t, "/dev/urandom", RW).expect("a device");
    assert_ne!(get(t, fd, 1000), get(t, fd, 1000));
    name::unlink(t, c("/dev/full")).expect("it is there");
    assert_eq!(open_at(t, "/dev/full", RW), Err(Errno::ENOENT));
    assert!(!list(t, "/dev").contains(&"full".into()));
    assert_eq!(stat_of(t, "/dev").map(|stat| stat.nlink), Ok(4));
    make(t, "/dev/shm/x", b"shared");
    assert_eq!(list(t, "/dev/shm"), [".", "..", "x"]);
    assert_eq!(control::ioctl(t, fd, linux_raw_sys::ioctl::TCGETS, 0), Err(Errno::ENOTTY));
}

#[test]
fn proc_tells_about_the_process() {
    let t = task();
    t.image.lock().exe = b"/bin/prog".to_vec();
    t.image.lock().comm = b"prog".to_vec();
    t.image.lock().arguments = b"prog\0-x\0".to_vec();
    assert_eq!(link_of(t, "/proc/self").as_deref(), Ok("1"));
    assert_eq!(link_of(t, "/proc/self/exe").as_deref(), Ok("/bin/prog"));
    assert_eq!(text(t, "/proc/self/cmdline"), "prog\0-x\0");
    assert_eq!(text(t, "/proc/1/comm"), "prog\n");
    assert_eq!(stat_of(t, "/proc/2").map(|_| ()), Err(Errno::ENOENT));
    make(t, "/f", b"content");
    let fd = open_at(t, "/f", linux::O_RDONLY).expect("it is there");
    assert_eq!(link_of(t, &format!("/proc/self/fd/{fd}")).as_deref(), Ok("/f"));
    assert_eq!(text(t, &format!("/dev/fd/{fd}")), "content");
    name::unlink(t, c("/f")).expect("it is there");
    assert_eq!(link_of(t, &format!("/proc/self/fd/{fd}")).as_deref(), Ok("/f (deleted)"));
    assert_eq!(text(t, &format!("/proc/self/fd/{fd}")), "content");
    assert_eq!(list(t, "/proc/self/fd"), [".", "..", "0", "1"]);
    name::chdir(t, c("/proc/self/fd")).expect("a directory");
    assert_eq!(cwd(t).as_deref(), Ok("/proc/1/fd"));
    assert_eq!(stat_of(t, "../../..").map(|s| s.ino), stat_of(t, "/").map(|s| s.ino));
    assert_eq!(link_of(t, "/proc/self/cwd").as_deref(), Ok("/proc/1/fd"));
    assert_eq!(stat_of(t, "/proc/self/root/proc/self/cwd").map(|s| s.ino), Ok(3));
    assert_eq!(open_at(t, "/proc/self/comm", RW), Err(Errno::EACCES));
    for name in list(t, "/proc").iter().chain(&list(t, "/proc/self")) {
        for path in [format!("/proc/{name}"), format!("/proc/self/{name}")] {
            if stat_of(t, &path).is_ok_and(|stat| stat.mode & linux::S_IFMT == linux::S_IFREG) {
                text(t, &path);
            }
        }
    }
    let status = text(t, "/proc/self/status");
    assert!(status.contains("\nPid:\t1\n") && status.contains("\nTgid:\t1\n"));
    assert!(text(t, "/proc/meminfo").starts_with("MemTotal:"));
    assert_eq!(text(t, "/proc/self/stat").split_whitespace().count(), 52);
    assert_eq!(text(t, "/proc/sys/kernel/ostype"), "Linux\n");
    assert_eq!(text(t, "/proc/mounts").lines().count(), 3);
    assert_eq!(text(t, "/proc/sys/kernel/random/uuid").len(), 37);
}

#[test]
fn stream_write_is_one_request() {
    static WRITTEN: SpinLock<Vec<Vec<u8>>> = SpinLock::new(Vec::new());
    let t = task();
    fake::set(|request| {
        assert_eq!((request.op, request.stream), (OP_WRITE, 1));
        let bytes = fake::gather(request);
        request.result = bytes.len() as i64;
        WRITTEN.lock().push(bytes);
    });
    let opening = Opening::from_bits(linux::O_WRONLY);
    t.files.insert(stream::open(1, opening, (0, 0)), OnExec::Keep, 1).expect("room");
    let big = vec![b'x'; 1 << 20];
    assert_eq!(put(t, 1, &big), Ok(1 << 20));
    assert_eq!(put(t, 1, b"hello"), Ok(5));
    assert_eq!(WRITTEN.lock().iter().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 5]);
    make(t, "/f", b"from a file");
    let from = open_at(t, "/f", linux::O_RDONLY).expect("it is there");
    assert_eq!(transfer::sendfile(t, 1, from, UserAddr(0), 100), Ok(11));
    assert_eq!(WRITTEN.lock().last().expect("one more"), b"from a file");
    fake::set(|request| request.result = -i64::from(Errno::EPIPE.number()));
    assert_eq!(put(t, 1, b"hello"), Err(Errno::EPIPE));
    assert!(t.signal_pending());
    assert_eq!(stat_of(t, "/dev/stdout").map(|s| s.mode), Ok(linux::S_IFIFO | 0o600));
}

#[test]
fn stream_read_gives_what_there_is() {
    let t = task();
    let mut input: Vec<Result<&[u8]>> =
        vec![Err(Errno::EAGAIN), Ok(b"abc"), Err(Errno::EAGAIN), Ok(b"def"), Ok(b"")];
    input.reverse();
    fake::set(move |request| {
        assert_eq!((request.op, request.stream), (OP_READ, 0));
        request.result = match input.pop().expect("no more than that") {
            Ok(bytes) => {
                let count = fake::scatter(request, bytes);
                if count < bytes.len() {
                    input.push(Ok(&bytes[count..]));
                }
                count as i64
            }
            Err(errno) => -i64::from(errno.number()),
        };
    });
    let opening = Opening::from_bits(linux::O_RDONLY | linux::O_NONBLOCK);
    t.files.insert(stream::open(0, opening, (0, 0)), OnExec::Keep, 0).expect("room");
    let polled = give(PollFd { fd: 0, events: linux::POLLIN as u16, revents: 0 });
    assert_eq!(poll::poll(t, polled, 1, 0), Ok(0));
    assert_eq!(poll::poll(t, polled, 1, 0), Ok(1));
    assert_eq!(get(t, 0, 100).as_deref(), Ok(&b"abc"[..]));
    assert_eq!(get(t, 0, 100), Err(Errno::EAGAIN));
    assert_eq!(get(t, 0, 100).as_deref(), Ok(&b"def"[..]));
    assert_eq!(get(t, 0, 100).as_deref(), Ok(&b""[..]));
}

#[test]
fn terminal_is_one_for_all() {
    static SCREEN: SpinLock<Vec<u8>> = SpinLock::new(Vec::new());
    static KEYS: SpinLock<Vec<u8>> = SpinLock::new(Vec::new());
    let t = task();
    fake::set(|request| {
        request.result = match request.op {
            OP_WRITE => {
                let bytes = fake::gather(request);
                SCREEN.lock().extend_from_slice(&bytes);
                bytes.len() as i64
            }
            OP_READ if KEYS.lock().is_empty() => -i64::from(Errno::EAGAIN.number()),
            OP_READ => {
                let mut keys = KEYS.lock();
                let count = fake::scatter(request, &keys);
                keys.drain(..count);
                count as i64
            }
            OP_WINSIZE => {
                request.winsize.rows = 24;
                request.winsize.columns = 80;
                0
            }
            _ => panic!("no such operation"),
        };
    });
    assert_eq!(open_at(t, "/dev/tty", RW), Err(Errno::ENXIO));
    terminal::attach(0, Default::default());
    terminal::attach(1, Default::default());
    terminal::start();
    let fd = open_at(t, "/dev/tty", RW).expect("there is a terminal");
    KEYS.lock().extend_from_slice(b"hello\rwor");
    assert_eq!(get(t, fd, 100).as_deref(), Ok(&b"hello\n"[..]));
    assert_eq!(put(t, fd, b"out\n"), Ok(4));
    assert_eq!(*SCREEN.lock(), b"hello\r\nworout\r\n");
    KEYS.lock().extend_from_slice(b"ld\x03");
    assert!(!t.signal_pending());
    crate::driver::stdio::on_input_interrupt();
    assert!(t.signal_pending(), "SIGINT");
    let size = give(WinSize::default());
    control::ioctl(t, fd, linux_raw_sys::ioctl::TIOCGWINSZ, size.0).expect("a terminal");
    let size: WinSize = taken(size);
    assert_eq!((size.rows, size.columns), (24, 80));
    let termios = give([0u8; size_of::<Termios>()]);
    control::ioctl(t, fd, linux_raw_sys::ioctl::TCGETS, termios.0).expect("a terminal");
    let mut termios: Termios = taken(termios);
    assert!(termios.lflag & linux::ICANON != 0);
    termios.lflag &= !(linux::ICANON | linux::ECHO);
    control::ioctl(t, fd, linux_raw_sys::ioctl::TCSETSF, at(&termios).0).expect("a terminal");
    KEYS.lock().extend_from_slice(b"k");
    assert_eq!(get(t, fd, 10).as_deref(), Ok(&b"k"[..]));
    assert_eq!(stat_of(t, "/dev/pts/0").map(|stat| stat.rdev), Ok(136 << 8));
}
