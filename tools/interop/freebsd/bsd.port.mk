# A stand-in for FreeBSD's bsd.port.mk: the variables that the port's own targets use.
PREFIX=			/usr/local
MKDIR=			mkdir -p
INSTALL_PROGRAM=	install -m 555
INSTALL_DATA=		install -m 444
INSTALL_MAN=		install -m 444
CARGO_BUILD_TARGET=	x86_64-unknown-freebsd
CARGO_TARGET_DIR=	${WRKDIR}/target
