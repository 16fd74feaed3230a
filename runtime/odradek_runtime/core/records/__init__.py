"""What is stored, said and asked: keys, formats, ids, journals, answers, dead letters. Leaves, which know nothing of a worker."""
