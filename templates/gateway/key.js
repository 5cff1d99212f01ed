// Made by ojai. Which key a request has: nginx compares the sum with those under keys/, and never sees a key on disk.
import crypto from 'crypto';

function sum(request) {
    const found = /^Bearer +([!-~]{16,256})$/i.exec(request.headersIn.Authorization || '');
    return found ? crypto.createHash('sha256').update(found[1]).digest('hex') : '';
}

export default { sum };
