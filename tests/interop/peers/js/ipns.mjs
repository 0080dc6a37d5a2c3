// IPNS records of js-ipns, made or checked; the lines are those of ../go/ipns/main.go.
//
//   node --import ./node20.mjs ipns.mjs make    prints records
//   node --import ./node20.mjs ipns.mjs check   reads records, and exits 1 if js-ipns' verdict on any is another
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { createIPNSRecord, marshalIPNSRecord, multihashToIPNSRoutingKey } from 'ipns'
import { ipnsValidator } from 'ipns/validator'
import { readFileSync } from 'node:fs'

const FAR = Date.UTC(2126, 0, 2, 3, 4, 5)
const VALUE = '/ipfs/bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4'
// js-ipns knows no ECDSA names, and looks at the fields of old only where both the value and the first signature are there.
const KNOWN = ['ecdsa', 'v1-signature-alone', 'v1-value-alone-differs']
const hex = (bytes) => Buffer.from(bytes).toString('hex')

async function make () {
  const secret = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(9))
  const key = hex(multihashToIPNSRoutingKey(secret.publicKey.toMultihash()))
  for (const v1Compatible of [true, false]) {
    const record = await createIPNSRecord(secret, VALUE, 7n, FAR - Date.now(), { v1Compatible })
    console.log(v1Compatible ? 'js-v1-v2' : 'js-v2-only', 'valid', key, hex(marshalIPNSRecord(record)))
  }
}

async function check () {
  let good = true
  let checked = 0
  for (const line of readFileSync(0, 'utf8').split('\n')) {
    const words = line.split(' ')
    if (words.length !== 4) continue
    const [name, verdict, key, record] = words
    let why
    try {
      await ipnsValidator(Buffer.from(key, 'hex'), Buffer.from(record, 'hex'))
    } catch (error) {
      why = error
    }
    checked++
    if ((why === undefined) !== (verdict === 'valid') && !KNOWN.includes(name)) {
      good = false
      console.log(`${name}: should be ${verdict}, is: ${why}`)
    }
  }
  console.log(checked, 'checked')
  return good && checked > 0
}

if (process.argv[2] === 'make') await make()
else if (process.argv[2] !== 'check' || !await check()) process.exitCode = 1
