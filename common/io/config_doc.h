/*
 * What --help says of the keys: an array a section, config_doc_node[] and so on, of the section's
 * name and a sentence for each of its keys in the order of config_keys().  They stand apart from
 * the table so that a program carries those of the sections that it reads, not all.
 */
#ifndef IO_CONFIG_DOC_H
#define IO_CONFIG_DOC_H

#define KEY(section, field, key, kind, def, words, doc)
#define SECTION(name) extern const char config_doc_##name[];
#include "io/config_keys.def"

/* The text behind `text`. */
const char *config_doc_next(const char *text);

#endif
