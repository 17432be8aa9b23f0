//! Bytes and descriptors.

use super::*;

#[test]
fn vectors_and_positions() {
    let t = task();
    let fd = open_at(t, "/f", CREATE).expect("a free name");
    let parts: Vec<&[u8]> = vec![b"one ", b"", b"two ", b"three"];
    let vector: Vec<IoVec> = parts
        .iter()
        .map(|part| IoVec { base: part.as_ptr() as u64, len: part.len() as u64 })
        .collect();
    assert_eq!(io::writev(t, fd, at(&vector[..]), 4), Ok(13));
    assert_eq!(io::writev(t, fd, at(&vector[..]), 1025), Err(Errno::EINVAL));
    assert_eq!(io::lseek(t, fd, 4, linux::SEEK_SET), Ok(4));
    assert_eq!(get(t, fd, 3).as_deref(), Ok(&b"two"[..]));
    assert_eq!(io::lseek(t, fd, -5, linux::SEEK_END), Ok(8));
    assert_eq!(io::lseek(t, fd, -9, linux::SEEK_CUR), Err(Errno::EINVAL));
    assert_eq!(get(t, fd, 100).as_deref(), Ok(&b"three"[..]));
    let (a, b) = (give([0u8; 2]), give([0u8; 20]));
    let vector = [IoVec { base: a.0, len: 2 }, IoVec { base: b.0, len: 20 }];
    assert_eq!(io::preadv(t, fd, at(&vector), 2, 1), Ok(12));
    assert_eq!((taken(a), taken(b)), (*b"ne", *b" tw"));
    assert_eq!(io::pread64(t, fd, a, 2, -1), Err(Errno::EINVAL));
    assert_eq!(io::pwrite64(t, fd, at(b"XY"), 2, 20), Ok(2));
    assert_eq!(stat_of(t, "/f").map(|stat| stat.size), Ok(22));
    assert_eq!(io::lseek(t, fd, 0, linux::SEEK_CUR), Ok(13));
    assert_eq!(attribute::ftruncate(t, fd, 100_000), Ok(0));
    assert_eq!(io::lseek(t, fd, 0, linux::SEEK_HOLE), Ok(4096));
    assert_eq!(io::lseek(t, fd, 5000, linux::SEEK_DATA), Err(Errno::ENXIO));
    assert_eq!(attribute::fallocate(t, fd, 0, 0, 200_000), Ok(0));
    assert_eq!(stat_of(t, "/f").map(|stat| stat.size), Ok(200_000));
    let punch = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
    assert_eq!(attribute::fallocate(t, fd, punch, 0, 4), Ok(0));
    assert_eq!(io::lseek(t, fd, 3, linux::SEEK_SET), Ok(3));
    assert_eq!(get(t, fd, 3).as_deref(), Ok(&b"\0tw"[..]));
}

#[test]
fn descriptors_are_the_lowest_free() {
    let t = task();
    make(t, "/f", b"abc");
    let open = || open_at(t, "/f", RW | linux::O_CLOEXEC).expect("it is there");
    assert_eq!((open(), open(), open()), (0, 1, 2));
    open::close(t, 1).expect("open");
    assert_eq!(control::dup(t, 0), Ok(1));
    assert_eq!(open::close(t, 9), Err(Errno::EBADF));
    assert_eq!(open::close(t, -1), Err(Errno::EBADF));
    assert_eq!(control::fcntl(t, 0, linux::F_GETFD, 0), Ok(1));
    assert_eq!(control::fcntl(t, 1, linux::F_GETFD, 0), Ok(0));
    assert_eq!(control::fcntl(t, 0, linux::F_DUPFD_CLOEXEC, 10), Ok(10));
    assert_eq!(control::fcntl(t, 0, linux::F_DUPFD, 1024), Err(Errno::EINVAL));
    assert_eq!(control::dup2(t, 0, 0), Ok(0));
    assert_eq!(control::dup2(t, 0, 5), Ok(5));
    assert_eq!(control::dup2(t, 0, 1024), Err(Errno::EBADF));
    assert_eq!(control::dup3(t, 0, 0, 0), Err(Errno::EINVAL));
    assert_eq!(control::dup3(t, 0, 6, linux::O_CLOEXEC), Ok(6));
    // They share a position.
    assert_eq!(get(t, 0, 1).as_deref(), Ok(&b"a"[..]));
    assert_eq!(get(t, 5, 1).as_deref(), Ok(&b"b"[..]));
    assert_eq!(control::fcntl(t, 0, linux::F_SETFL, u64::from(linux::O_APPEND)), Ok(0));
    let flags = linux::O_RDWR | linux::O_APPEND;
    assert_eq!(control::fcntl(t, 5, linux::F_GETFL, 0), Ok(flags as usize));
    t.files.close_on_exec();
    assert_eq!(t.files.next_open(0), Some(1));
    assert_eq!(t.files.next_open(2), Some(5));
    assert_eq!(t.files.next_open(6), None);
    assert_eq!(open::close_range(t, 0, u32::MAX, 0), Ok(0));
    assert_eq!(t.files.next_open(0), None);
    t.files.set_limit(1);
    assert_eq!(open_at(t, "/f", RW), Ok(0));
    assert_eq!(open_at(t, "/new", CREATE), Err(Errno::EMFILE));
    assert_eq!(stat_of(t, "/new").map(|_| ()), Err(Errno::ENOENT));
}

#[test]
fn pipes_carry_bytes() {
    let t = task();
    let fds = give([0i32; 2]);
    assert_eq!(pipe::pipe2(t, fds, linux::O_NONBLOCK), Ok(0));
    let [reader, writer] = taken::<[i32; 2]>(fds);
    assert_eq!(get(t, reader, 10), Err(Errno::EAGAIN));
    assert_eq!(put(t, writer, b"hello "), Ok(6));
    assert_eq!(put(t, writer, b"world"), Ok(5));
    let polled = give(PollFd { fd: reader, events: linux::POLLIN as u16, revents: 0 });
    assert_eq!(poll::poll(t, polled, 1, 0), Ok(1));
    assert_eq!(u32::from(taken::<PollFd>(polled).revents), linux::POLLIN);
    assert_eq!(get(t, reader, 8).as_deref(), Ok(&b"hello wo"[..]));
    assert_eq!(get(t, reader, 8).as_deref(), Ok(&b"rld"[..]));
    assert_eq!(io::lseek(t, reader, 0, 0), Err(Errno::ESPIPE));
    assert_eq!(put(t, reader, b"x"), Err(Errno::EBADF));
    let big = vec![7; 100_000];
    assert_eq!(put(t, writer, &big), Ok(65_536));
    assert_eq!(put(t, writer, b"x"), Err(Errno::EAGAIN));
    assert_eq!(get(t, reader, 70_000).map(|bytes| bytes.len()), Ok(65_536));
    for _ in 0..65_536 {
        assert_eq!(put(t, writer, b"y"), Ok(1));
    }
    assert_eq!(put(t, writer, b"y"), Err(Errno::EAGAIN));
    assert_eq!(get(t, reader, 70_000).map(|bytes| bytes.len()), Ok(65_536));
    put(t, writer, b"rest").expect("room");
    open::close(t, writer).expect("open");
    assert_eq!(get(t, reader, 10).as_deref(), Ok(&b"rest"[..]));
    assert_eq!(get(t, reader, 10).as_deref(), Ok(&b""[..]));
    assert_eq!(poll::poll(t, polled, 1, -1), Ok(1));
    assert_eq!(u32::from(taken::<PollFd>(polled).revents), linux::POLLHUP);
    assert_eq!(pipe::pipe2(t, fds, 0), Ok(0));
    let [reader, writer] = taken::<[i32; 2]>(fds);
    open::close(t, reader).expect("open");
    assert!(!t.signal_pending());
    assert_eq!(put(t, writer, b"x"), Err(Errno::EPIPE));
    assert!(t.signal_pending(), "SIGPIPE");
}

#[test]
fn files_are_copied_in_the_kernel() {
    let t = task();
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
    make(t, "/from", &bytes);
    let from = open_at(t, "/from", linux::O_RDONLY).expect("it is there");
    let to = open_at(t, "/to", CREATE).expect("a free name");
    assert_eq!(transfer::sendfile(t, to, from, UserAddr(0), 150_000), Ok(150_000));
    assert_eq!(transfer::sendfile(t, to, from, UserAddr(0), 150_000), Ok(50_000));
    assert_eq!(transfer::sendfile(t, to, from, UserAddr(0), 150_000), Ok(0));
    let read = |path: &str| {
        let fd = open_at(t, path, linux::O_RDONLY).expect("it is there");
        get(t, fd, 300_000).expect("readable")
    };
    assert_eq!(read("/to"), bytes);
    let copy = open_at(t, "/copy", CREATE).expect("a free name");
    let offset = give(100i64);
    assert_eq!(transfer::copy_file_range(t, from, offset, copy, UserAddr(0), 1000, 0), Ok(1000));
    assert_eq!(taken::<i64>(offset), 1100);
    assert_eq!(read("/copy"), bytes[100..1100]);
    let null = open_at(t, "/dev/null", RW).expect("a device");
    assert_eq!(transfer::sendfile(t, null, from, give(0i64), 1000), Ok(1000));
    assert_eq!(transfer::sendfile(t, to, null, UserAddr(0), 1), Err(Errno::EINVAL));
}
