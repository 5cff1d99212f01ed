// Made by ojai. Which key a request has: nginx compares the sum with those under keys/, and never sees a key on disk.
import crypto from 'crypto';

function sum(request) {
    const found = /^Bearer +([!-~]+)$/i.exec(request.headersIn.Authorization || '');
    return found ? crypto.createHash('sha256').update(found[1]).digest('hex') : '';
}

// The name of the key. One that was replaced has the second of 1970 after its name from which it is valid no more.
function client(request) {
    const known = request.variables.ojai_known.split('@');
    return known.length > 1 && Date.now() / 1000 >= Number(known[1]) ? '' : known[0];
}

export default { sum, client };
