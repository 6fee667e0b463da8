use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Returns a wire to a peer, and the peer.
async fn called() -> (Wire, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let (wire, accepted) = tokio::join!(Wire::call("127.0.0.1", port), server.accept());
    (wire.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn a_socket_carries_bytes_both_ways() {
    let (mut wire, mut peer) = called().await;
    peer.write_all(b"to the gateway").await.unwrap();
    assert_eq!(read_all(&mut wire, 14).await, b"to the gateway");
    wire.write(b"to the peer").await.unwrap();
    let mut heard = [0; 11];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"to the peer");
    assert_eq!(wire.port_facts(), None);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_an_error_and_not_an_empty_read() {
    let (mut wire, peer) = called().await;
    drop(peer);
    let error = within("the end", wire.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(wire.discard().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_came_unasked_is_thrown_away_unless_it_never_ends() {
    let (mut wire, mut peer) = called().await;
    peer.write_all(b"crc").await.unwrap();
    // Not a turn of the reactor between: what the kernel holds counts, not what the reactor knows.
    assert_eq!(wire.discard().unwrap(), 3);
    assert_eq!(wire.discard().unwrap(), 0);
    peer.write_all(&[0; 64 * 1024]).await.unwrap();
    assert_eq!(wire.discard().unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_ends_in_an_error() {
    let (mut wire, _peer) = called().await;
    let error = within("writing", async {
        loop {
            if let Err(error) = wire.write(&[0; 64 * 1024]).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.to_string(), "the peer takes no bytes");
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_named() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let error = Wire::call("127.0.0.1", address.port()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address}: Connection refused (os error 111)"));
}

#[tokio::test]
async fn a_taken_address_is_named_and_one_that_listens_keeps_its_port() {
    let listener = Listener::new("127.0.0.1:0".parse().unwrap());
    let address = listener.open().unwrap();
    for peer in ["first", "second"] {
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(peer.as_bytes()).await.unwrap();
        let (mut wire, ip) = within("the call", listener.accept()).await.unwrap();
        assert_eq!(ip, address.ip());
        assert_eq!(wire.describe(), format!("{} at 127.0.0.1:0", caller.local_addr().unwrap()));
        assert_eq!(read_all(&mut wire, peer.len()).await, peer.as_bytes());
    }
    let error = Listener::new(address).open().unwrap_err();
    assert_eq!(error.to_string(), format!("{address}: cannot be listened at: Address already in use (os error 98)"));
}
