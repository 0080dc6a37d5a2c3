// IPNS records of boxo, made or checked. A record is a line: a name for people, the verdict that it must get ("valid",
// or why not), its key and its bytes in hexadecimal.
//
//	go run ./ipns make    prints records
//	go run ./ipns check   reads records, and exits 1 if boxo's verdict on any is another
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	pb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

var (
	far   = time.Date(2126, 1, 2, 3, 4, 5, 678912345, time.UTC)
	past  = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	value = must(path.NewPath("/ipfs/bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"))
	other = "/ipfs/bafkqaaa"
)

func must[T any](t T, err error) T {
	if err != nil {
		panic(err)
	}
	return t
}

// stream is a reader of reproducible bytes.
type stream struct {
	seed string
	n    int
}

func (s *stream) Read(p []byte) (int, error) {
	s.n++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.seed, s.n))
	return copy(p, sum[:]), nil
}

func key(kind int, seed string) crypto.PrivKey {
	sk, _, err := crypto.GenerateKeyPairWithReader(kind, 2048, &stream{seed: seed})
	return must(sk, err)
}

func record(sk crypto.PrivKey, seq uint64, eol time.Time, opts ...ipns.Option) []byte {
	return must(ipns.MarshalRecord(must(ipns.NewRecord(sk, value, seq, eol, 5*time.Minute, opts...))))
}

// with changes a record.
func with(bytes []byte, change func(*pb.IpnsRecord)) []byte {
	var rec pb.IpnsRecord
	if err := proto.Unmarshal(bytes, &rec); err != nil {
		panic(err)
	}
	change(&rec)
	return must(proto.MarshalOptions{Deterministic: true}.Marshal(&rec))
}

func broken(signature []byte) []byte {
	signature[3] ^= 1
	return signature
}

func print(name, verdict string, sk crypto.PrivKey, record []byte) {
	id := must(peer.IDFromPrivateKey(sk))
	fmt.Printf("%s %s %x %x\n", name, verdict, ipns.NameFromPeer(id).RoutingKey(), record)
}

func makeAll() {
	ed := key(crypto.Ed25519, "ed25519")
	both := record(ed, 7, far)
	v2 := record(ed, 7, far, ipns.WithV1Compatibility(false))
	// The six of the specification's section "Test Vectors".
	print("1-v1-only", "bad-signature", ed, with(both, func(r *pb.IpnsRecord) { r.SignatureV2, r.Data = nil, nil }))
	print("2-v1-v2", "valid", ed, both)
	print("3-v1-value-differs", "malformed", ed, with(both, func(r *pb.IpnsRecord) { r.Value = []byte(other) }))
	print("4-only-v1-signature-valid", "bad-signature", ed,
		with(both, func(r *pb.IpnsRecord) { r.SignatureV2 = broken(r.SignatureV2) }))
	print("5-only-v2-signature-valid", "valid", ed,
		with(both, func(r *pb.IpnsRecord) { r.SignatureV1 = broken(r.SignatureV1) }))
	print("6-v2-only", "valid", ed, v2)

	print("v1-sequence-differs", "malformed", ed, with(both, func(r *pb.IpnsRecord) { r.Sequence = proto.Uint64(8) }))
	print("v1-ttl-differs", "malformed", ed, with(both, func(r *pb.IpnsRecord) { r.Ttl = proto.Uint64(1) }))
	print("v1-validity-differs", "malformed", ed, with(both, func(r *pb.IpnsRecord) { r.Validity[0] = '3' }))
	print("v1-value-alone-differs", "malformed", ed, with(v2, func(r *pb.IpnsRecord) { r.Value = []byte(other) }))
	print("v1-signature-alone", "malformed", ed, with(v2, func(r *pb.IpnsRecord) { r.SignatureV1 = []byte{1} }))
	print("without-data", "malformed", ed, with(both, func(r *pb.IpnsRecord) { r.Data = nil }))
	print("expired", "expired", ed, record(ed, 7, past))
	print("sequence-0", "valid", ed, record(ed, 0, far))
	print("metadata", "valid", ed, record(ed, 7, far, ipns.WithMetadata(map[string]any{"_x": "y", "note": 1})))
	print("key-embedded-needlessly", "valid", ed, record(ed, 7, far, ipns.WithPublicKey(true)))
	print("of-another-name", "bad-signature", key(crypto.Ed25519, "another"), both)

	rsa := key(crypto.RSA, "rsa")
	print("rsa-v1-v2", "valid", rsa, record(rsa, 7, far))
	print("rsa-v2-only", "valid", rsa, record(rsa, 7, far, ipns.WithV1Compatibility(false)))
	print("rsa-without-key", "malformed", rsa, with(record(rsa, 7, far), func(r *pb.IpnsRecord) { r.PubKey = nil }))
	print("rsa-with-another-key", "wrong-key", rsa, with(record(rsa, 7, far), func(r *pb.IpnsRecord) {
		r.PubKey = must(crypto.MarshalPublicKey(ed.GetPublic()))
	}))
	secp := key(crypto.Secp256k1, "secp256k1")
	print("secp256k1", "valid", secp, record(secp, 7, far))
	ecdsa := key(crypto.ECDSA, "ecdsa")
	print("ecdsa", "valid", ecdsa, record(ecdsa, 7, far))
}

func checkAll(from io.Reader) bool {
	good, checked := true, 0
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 4 {
			continue
		}
		err := ipns.Validator{}.Validate(string(must(hex.DecodeString(words[2]))), must(hex.DecodeString(words[3])))
		checked++
		if (err == nil) != (words[1] == "valid") {
			good = false
			fmt.Printf("%s: should be %s, is: %v\n", words[0], words[1], err)
		}
	}
	fmt.Println(checked, "checked")
	return good && checked > 0
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "make":
		makeAll()
	case len(os.Args) == 2 && os.Args[1] == "check" && checkAll(os.Stdin):
	default:
		os.Exit(1)
	}
}
